package cli

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// namedSite is a head with objects of every type, and gives its address.
func namedSite(t testing.TB) (server string) {
	t.Helper()
	h := newTestHead()
	if _, err := h.Init(t.Context(), api.InitRequest{FrontendAddress: netip.MustParseAddr("10.30.255.254")}); err != nil {
		t.Fatal(err)
	}
	server = "unix://" + h.serve(t)
	t.Setenv("LUNA_SERVER", server)
	for _, line := range []string{
		"network add -n cluster -N 10.30.0.0 -P 16",
		"network add -n ipmi -N 10.31.0.0 -P 24",
		"osimage add -n compute -p /tmp",
		"osimage add -n centos -p /etc",
		"bmcsetup add -n base",
		"group add -n compute -o compute -N cluster -b base -bn ipmi",
		"group add -n login -o compute -N cluster",
		"group change login -i eth1 -A",
		"node add -g compute -n node[001-003] --tag gpu,rack1",
		"node add -g login -n login1",
		"switch add -n switch01 -N cluster -i 10.30.1.1",
		"otherdev add -n pdu1 -N cluster -i 10.30.1.2",
	} {
		root := Root()
		var errs bytes.Buffer
		root.SetOut(&errs)
		root.SetErr(&errs)
		if code := Run(t.Context(), root, strings.Fields(line)); code != exitOK {
			t.Fatalf("luna %s: exit code %d\n%s", line, code, &errs)
		}
	}
	return server
}

// typed gives the words for a command line of which the last word is being
// typed, and what else the shell may offer.
func typed(t *testing.T, line string) (words, directive string) {
	t.Helper()
	fields := strings.Split(line, " ")
	args := append([]string{fields[0], "__completeNoDesc"}, fields[1:]...)
	code, stdout, stderr := invoke(t, args...)
	if code != exitOK {
		t.Fatalf("%s: exit code %d\n%s", line, code, stderr)
	}
	list, number, _ := strings.Cut("\n"+stdout, "\n:")
	switch strings.TrimSpace(number) {
	case "0":
		directive = "files"
	case "4":
	case "16":
		directive = "directories"
	default:
		directive = number
	}
	return strings.Join(strings.Fields(list), " "), directive
}

func TestComplete(t *testing.T) {
	namedSite(t)
	const ops = "cycle identify noidentify off on reset status"
	for line, want := range map[string]string{
		// Objects, actions, names.
		"luna n":                         "network node",
		"luna node ":                     "add change delete list rename show",
		"luna node show ":                "login1 node001 node002 node003",
		"luna node show node":            "node001 node002 node003",
		"luna node change n":             "node001 node002 node003",
		"luna node delete -n n":          "node001 node002 node003",
		"luna node rename --name login":  "login1",
		"luna node list l":               "login1",
		"luna node show node001 ":        "",
		"luna node show -n node001 ":     "",
		"luna node add -n ":              "",
		"luna node rename login1 --nn ":  "",
		"luna network show ":             "cluster ipmi",
		"luna osimage pack c":            "centos compute",
		"luna osimage grab ":             "--host -H centos compute",
		"luna osimage clone compute -t ": "",
		"luna osimage sync -n comp":      "compute",
		"luna bmcsetup delete ":          "base",
		"luna group clone lo":            "login",
		"luna switch show ":              "switch01",
		"luna otherdev change ":          "pdu1",
		"luna head show ":                "h1",
		"luna head drain ":               "h1",
		"luna head undrain h":            "h1",
		"luna head replace ":             "h1",
		"luna head remove -n ":           "h1",
		"luna head change ":              "--weight h1",
		"luna head change h1 --weight ":  "",
		"luna cluster safe ":             "h1",
		"luna cluster safe h1 ":          "",
		"luna cluster backup ":           "| files",
		"luna leave ":                    "",
		// Selections.
		"luna node show %":                 "%compute %login",
		"luna node show %comp":             "%compute",
		"luna node show @":                 "@gpu @rack1",
		"luna node show node001,lo":        "node001,login1",
		"luna node show %compute,-node00":  "%compute,-node001 %compute,-node002 %compute,-node003",
		"luna node show %compute&@g":       "%compute&@gpu",
		"luna node delete %compute!node00": "%compute!node001 %compute!node002 %compute!node003",
		"luna node show node[":             "",
		"luna node show node[001,lo":       "",
		"luna node show node[001-002],lo":  "node[001-002],login1",
		// Values of options, under all of their spellings.
		"luna node add -g ":                                  "compute login",
		"luna node add --group=c":                            "compute",
		"luna node add --gr ":                                "compute login",
		"luna node change node001 -s ":                       "switch01",
		"luna node change node001 --switch sw":               "switch01",
		"luna node change node001 --localboot ":              "n y",
		"luna node change node001 --setup ":                  "n y",
		"luna node change node001 --sv ":                     "n y",
		"luna node change node001 --service=":                "n y",
		"luna node change node001 --untag ":                  "gpu rack1",
		"luna node change node001 --tag gpu,":                "gpu,gpu gpu,rack1",
		"luna node change node001 -i ":                       "BMC BOOTIF",
		"luna node change login1 -i ":                        "BOOTIF eth1",
		"luna node change node001 -i BOOTIF ":                "",
		"luna node change node001 -i BOOTIF 10.30.0.9 -l ":   "n y",
		"luna node change -i BOOTIF 10.30.0.9 log":           "login1",
		"luna node show node001 -s ":                         "boot install",
		"luna cluster change --frontend_https ":              "n y",
		"luna cluster change --path ":                        "| directories",
		"luna cluster restore f --passphrase-file ":          "| files",
		"luna cluster makedhcp -N ":                          "cluster ipmi",
		"luna group add -o ":                                 "centos compute",
		"luna group add --osimage c":                         "centos compute",
		"luna group add -b ":                                 "base",
		"luna group add -bn ":                                "cluster ipmi",
		"luna group add --bn i":                              "ipmi",
		"luna group add --bmcnetwork=i":                      "ipmi",
		"luna group add -N ":                                 "cluster ipmi",
		"luna group change compute -i ":                      "BMC BOOTIF",
		"luna group change -n login -i ":                     "BOOTIF eth1",
		"luna group change -i eth":                           "eth1",
		"luna group change compute -i BMC --sn ":             "cluster ipmi",
		"luna group change compute -i BMC --setnet ip":       "ipmi",
		"luna group change compute -i BMC --dn ":             "cluster ipmi",
		"luna group change compute -i BMC --delnet ip":       "ipmi",
		"luna group change compute -ti ":                     "BMC BOOTIF",
		"luna group change compute -d ":                      "cluster ipmi",
		"luna group show compute -i B":                       "BMC BOOTIF",
		"luna osimage add -n new -p ":                        "| directories",
		"luna osimage add -n new --path /o":                  "| directories",
		"luna osimage clone compute -t new -p ":              "| directories",
		"luna osimage change compute -k ":                    "6.1.0-10-amd64 6.1.0-9-amd64",
		"luna osimage grab compute -H node00":                "node001 node002 node003",
		"luna network add -N ":                               "",
		"luna network list -o ":                              "json table yaml",
		"luna network show cluster --output y":               "yaml",
		"luna osimage show compute -o ":                      "json table yaml",
		"luna group show -o j":                               "json",
		"luna osimage change compute -o ":                    "",
		"luna switch add -N ":                                "cluster ipmi",
		"luna apply -f ":                                     "| files",
		"luna log g":                                         "group",
		"luna log group/":                                    "group/compute group/login",
		"luna --server unix:///nowhere node show ":           "",
		"luna completion ":                                   "bash fish zsh",
		"luna completion bash l":                             "lchroot lpower luna",
		"luna group change compute -i BMC --deln --comment ": "",
		// The other programs.
		"lpower nod":                   "node001 node002 node003",
		"lpower %":                     "%compute %login",
		"lpower node[001-003] ":        ops,
		"lpower node001 o":             "off on",
		"lpower -g ":                   "compute login",
		"lpower -g login,c":            "login,compute",
		"lpower -g login ":             ops,
		"lpower -i ":                   "BMC BOOTIF eth1",
		"lpower --inter ":              "BMC BOOTIF eth1",
		"lpower -i BMC node001 status": "status",
		"lpower node001 on ":           "",
		"lchroot c":                    "centos compute",
		"lchroot compute ":             "",
		"lchroot compute ls -":         "",
	} {
		words, directive := typed(t, line)
		if directive != "" {
			words = strings.TrimSpace(words + " | " + directive)
		}
		if words != want {
			t.Errorf("%q\n gets %q\nwants %q", line, words, want)
		}
	}
	if words, _ := typed(t, "luna node change node001 --s"); !strings.Contains(words, "--service") {
		t.Errorf("options after --s: %q", words)
	}
	if words, _ := typed(t, "luna "); !strings.Contains(words, "cluster") || strings.Contains(words, "lpower") || strings.Contains(words, "docs") {
		t.Errorf("the first word: %q", words)
	}
}

// Where no head answers a person is not kept waiting, nor told.
func TestCompleteWithoutHead(t *testing.T) {
	h := newTestHead()
	h.hang = make(chan struct{})
	t.Setenv("LUNA_SERVER", "unix://"+h.serve(t))
	t.Cleanup(func() { close(h.hang) })
	start := time.Now()
	code, stdout, stderr := invoke(t, "luna", "__complete", "network", "show", "")
	if code != exitOK || stdout != ":4\n" || strings.Contains(stderr, "ERROR") {
		t.Errorf("of a head that hangs: exit code %d\n%s%s", code, stdout, stderr)
	}
	if took := time.Since(start); took > completionTime+2*time.Second {
		t.Errorf("that took %v", took)
	}
	for _, server := range []string{"unix:///nonexistent/socket", "https://h1", "nonsense"} {
		code, stdout, stderr := invoke(t, "luna", "__complete", "--server", server, "network", "show", "")
		if code != exitOK || stdout != ":4\n" || strings.Contains(stderr, "ERROR") {
			t.Errorf("of %s: exit code %d\n%s%s", server, code, stdout, stderr)
		}
	}
}

// BenchmarkComplete is what a person waits for at 10,000 nodes, but for the
// start of the process and the shell.
func BenchmarkComplete(b *testing.B) {
	h := newTestHead()
	if _, err := h.Init(b.Context(), api.InitRequest{FrontendAddress: netip.MustParseAddr("10.30.255.254")}); err != nil {
		b.Fatal(err)
	}
	names, err := inventory.ExpandHostlist("node[00001-10000]")
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []inventory.Command{
		inventory.AddNetwork{Name: "cluster", Prefix: netip.MustParsePrefix("10.30.0.0/16")},
		inventory.AddOSImage{Name: "compute", Path: "/img", KernVer: "6.1"},
		inventory.AddGroup{Name: "compute", OSImage: "compute", Network: "cluster"},
		inventory.AddNodes{Group: "compute", Names: names},
	} {
		if err := h.propose(c); err != nil {
			b.Fatal(err)
		}
	}
	b.Setenv("LUNA_SERVER", "unix://"+h.serve(b))
	for _, word := range []string{"", "node0471", "%"} {
		b.Run(fmt.Sprintf("typed %q", word), func(b *testing.B) {
			for b.Loop() {
				root := Root()
				var out bytes.Buffer
				root.SetOut(&out)
				root.SetErr(&out)
				if code := Run(b.Context(), root, []string{"__completeNoDesc", "node", "show", word}); code != exitOK || out.Len() < 5 {
					b.Fatalf("exit code %d\n%s", code, &out)
				}
			}
		})
	}
}
