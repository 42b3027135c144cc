package cli

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTranslate(t *testing.T) {
	for _, tc := range []struct{ line, want string }{
		// Prefixes, and what 1.2 did not have does not stand in their way.
		{"cluster init --front 10.30.255.254", "cluster init --frontend_address=10.30.255.254"},
		{"cluster init --front=10.30.255.254", "cluster init --frontend_address=10.30.255.254"},
		{"cluster init --prefix n --digits 4", "cluster init --nodeprefix=n --nodedigits=4"},
		{"cluster change --co", "cluster change --comment"},
		{"cluster change --cle", "cluster change --clear"},
		{"node change n1 --serv y --setup n --m ''", "node change n1 --service=y --setupbmc=n --mac="},
		{"group add --o compute", "group add --osimage=compute"},
		{"group change g --bmcnet --set ipmi", "group change g --bmcnetwork --setnet=ipmi"},
		{"group change g --pre", "group change g --prescript"},
		{"network list --out json", "network list --output=json"},
		{"network list --serv unix:///s", "network list --server=unix:///s"},
		{"--serv unix:///s network list", "--server=unix:///s network list"},
		{"--deb network list", "--debug network list"},
		{"-d network list", "--debug network list"},
		// Two names, one dash.
		{"group add -bn ipmi", "group add --bmcnetwork=ipmi"},
		{"group add --bn ipmi", "group add --bmcnetwork=ipmi"},
		{"group add -bn=ipmi", "group add --bmcnetwork=ipmi"},
		{"group add -b base -bn ipmi", "group add --bmcsetup=base --bmcnetwork=ipmi"},
		{"group change g -ti ib0", "group change g --torrent_if=ib0"},
		{"group change g --ti=ib0 -b ''", "group change g --torrent_if=ib0 --bmcsetup="},
		{"group change g -ti ''", "group change g --torrent_if="},
		{"group clone g -t h", "group clone g --to=h"},
		{"group change g --sn ipmi -i BMC", "group change g --setnet=ipmi --interface=BMC"},
		{"group change g -i BMC --nn ipmi0", "group change g --interface=BMC --rename=ipmi0"},
		{"group rename g --nn h", "group rename g --newname=h"},
		{"node change n1 --sb y --sv n", "node change n1 --setupbmc=y --service=n"},
		// A value or none.
		{"group change g -i BMC --dn", "group change g --interface=BMC --delnet"},
		{"group change g --dn -i BMC", "group change g --delnet --interface=BMC"},
		{"group change g -i BMC --delnet ipmi", "group change g --interface=BMC --delnet=ipmi"},
		{"group change g -i BMC --delnet=ipmi", "group change g --interface=BMC --delnet=ipmi"},
		// Two values.
		{"node change n1 -i BOOTIF 10.30.0.7", "node change n1 --interface=BOOTIF=10.30.0.7"},
		{"node change -i BOOTIF 10.30.0.7 n1", "node change --interface=BOOTIF=10.30.0.7 n1"},
		{"node change n1 -i BOOTIF=10.30.0.7 -l y", "node change n1 --interface=BOOTIF=10.30.0.7 --localboot=y"},
		{"node change n[1-9] -i BOOTIF 10.30.0.7+", "node change n[1-9] --interface=BOOTIF=10.30.0.7+"},
		{"node change n1 -s sw1 -p 7", "node change n1 --switch=sw1 --port=7"},
		{"node change n1 --sw sw1 --p ''", "node change n1 --switch=sw1 --port="},
		{"node change n1 --bmcip 10.31.0.7", "node change n1 --interface=BMC=10.31.0.7"},
		{"group change g -i BMC -A", "group change g --interface=BMC --add"},
		// -o in two senses.
		{"osimage show i -o", "osimage show i --kernopts"},
		{"osimage show -o i", "osimage show --kernopts i"},
		{"osimage show i -o json", "osimage show i --output=json"},
		{"osimage show i -oyaml", "osimage show i --output=yaml"},
		{"osimage show i -o=json", "osimage show i --output=json"},
		{"group show g -o", "group show g --osimage"},
		{"group show g -o table", "group show g --output=table"},
		{"group show g -b", "group show g --bmcsetup"},
		{"osimage change i -o json", "osimage change i --kernopts=json"},
		{"network show n -o json", "network show n --output=json"},
		// Short options glued, and several in one.
		{"network add -ncluster -N10.30.0.0 -P16", "network add --name=cluster --network=10.30.0.0 --prefix=16"},
		{"group change g -Ai BMC", "group change g --add --interface=BMC"},
		{"node list -1", "node list --one-line"},
		{"node list -1g g", "node list --one-line --group=g"},
		{"node delete -n node[001-003]", "node delete --name=node[001-003]"},
		{"osimage change i -d -plymouth", "osimage change i --dracutmodules=-plymouth"},
		// What is unknown is cobra's to refuse.
		{"network list --colour", "network list --colour"},
		{"network list -z", "network list -z"},
		{"network show -Rz n", "network show --raw -z n"},
		{"nonsense --front x", "nonsense --front x"},
		{"__complete network sh", "__complete network sh"},
		{"help network", "help network"},
		{"network add -n", "network add --name"},
		{"join h1 --token -", "join h1 --token=-"},
		{"network show -- -x --raw", "network show -- -x --raw"},
	} {
		_, got, err := translate(Root(), split(tc.line))
		if err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("%s\n got %s, %v\nwant %s", tc.line, strings.Join(got, " "), err, tc.want)
		}
	}
	for line, want := range map[string]string{
		"node change n1 --s y":      "ambiguous option: --s could match --service, --setupbmc, --switch",
		"group add --bmc b":         "ambiguous option: --bmc could match --bmcnetwork, --bmcsetup",
		"cluster change --c":        "ambiguous option: --c could match --cluster_ips, --comment",
		"node change n1 -i BOOTIF":  "argument --interface/-i: expected an interface and an address",
		"group change g --de":       "ambiguous option: --de could match --delete, --delnet",
		"cluster change --node gpu": "ambiguous option: --node could match --nodedigits, --nodeprefix",
	} {
		if cmd, _, err := translate(Root(), split(line)); err == nil || err.Error() != want || !strings.HasPrefix(line, strings.TrimPrefix(cmd.CommandPath(), "luna ")) {
			t.Errorf("%s: got %v of %s", line, err, cmd.CommandPath())
		}
	}
}

func TestTranslateLeavesWhatIsClean(t *testing.T) {
	word := rapid.OneOf(
		rapid.SampledFrom([]string{"network", "node", "group", "osimage", "show", "add", "change", "list", "-o", "json", "-i", "-1", "-bn", "--", "-", "-n", "--dn", "--name", "--interface=a=b", "x"}),
		rapid.StringMatching(`-{0,2}[a-zA-Z]{0,4}=?[a-z]{0,2}`),
	)
	rapid.Check(t, func(t *rapid.T) {
		once, again := rapid.SliceOf(word).Draw(t, "line"), []string(nil)
		_, out, err := translate(Root(), once)
		if err != nil {
			return
		}
		if _, again, err = translate(Root(), out); err != nil || !slices.Equal(out, again) {
			t.Fatalf("%q\nbecomes %q\nand then %q, %v", once, out, again, err)
		}
	})
}

// split cuts a command line into words; ' quotes.
func split(line string) []string {
	var words []string
	for _, w := range regexp.MustCompile(`(?:[^\s']|'[^']*')+`).FindAllString(line, -1) {
		words = append(words, strings.ReplaceAll(w, "'", ""))
	}
	return words
}
