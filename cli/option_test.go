package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// optionsOf12 are the options that 1.2 had, as long/short, by command. NAME was
// never an option of a show, change, rename or delete.
var optionsOf12 = map[string]string{
	"cluster init": "frontend_address nodeprefix nodedigits user path",
	"cluster show": "raw/R comment/C",
	"cluster change": "nodeprefix/p nodedigits/d path user frontend_address frontend_port frontend_https server_port tracker_interval " +
		"tracker_min_interval tracker_maxpeers torrent_listen_port_min torrent_listen_port_max torrent_pidfile lweb_num_proc lweb_pidfile " +
		"cluster_ips named_include_file named_zone_dir comment/C",
	"cluster sync": "", "cluster makedns": "", "cluster listmacs": "",
	"cluster makedhcp": "network/N start_ip/s end_ip/e native_dhcp_ha",
	"cluster delete":   "force",
	"osimage list":     "",
	"osimage show":     "raw/R path/p kernver/k kernopts grab_exclude_list/e grab_filesystems/f comment/C",
	"osimage add":      "name/n path/p kernver/k kernopts/o",
	"osimage change":   "kernver/k kernopts/o dracutmodules/d kernmodules/m path/p grab_exclude_list/e grab_filesystems/f comment/C",
	"osimage pack":     "image/i boot/b copy_boot/c",
	"osimage grab":     "host/H dry_run/d verbose/v",
	"osimage sync":     "", "osimage delete": "", "osimage rename": "newname",
	"osimage clone":   "to/t path/p",
	"bmcsetup list":   "",
	"bmcsetup show":   "raw/R comment/C",
	"bmcsetup add":    "name/n user/u password/p userid/I netchannel/N mgmtchannel/M",
	"bmcsetup change": "user/u password/p userid/I netchannel/N mgmtchannel/M comment/C",
	"bmcsetup delete": "", "bmcsetup rename": "newname",
	"network list":   "",
	"network show":   "raw/R reservedips/r comment/C",
	"network add":    "name/n network/N prefix/P ns_hostname ns_ip",
	"network change": "network/N prefix/P reserve/R release ns_hostname ns_ip include rev_include comment/C",
	"network delete": "", "network rename": "newname",
	"switch list":   "",
	"switch show":   "raw/R comment/C",
	"switch add":    "name/n network/N ip/i read/r rw/w oid/o",
	"switch change": "network/N ip/i read/r rw/w oid/o comment/C",
	"switch delete": "", "switch rename": "newname",
	"otherdev list":   "",
	"otherdev show":   "raw/R comment/C",
	"otherdev add":    "name/n network/N ip/i",
	"otherdev change": "network/N ip/i comment/C",
	"otherdev delete": "", "otherdev rename": "newname",
}

// takenSince are prefixes that became names of options of every command.
var takenSince = map[string]string{
	"cluster change --server": "server_port", // --server_ is as short as it gets
}

// TestOptionsOf12 finds every option of 1.2 by its name, its letter and every
// prefix that was unique then.
func TestOptionsOf12(t *testing.T) {
	root := Root()
	for line, options := range optionsOf12 {
		cmd, _, err := root.Find(strings.Fields(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		names := []string{"help"}
		for _, o := range strings.Fields(options) {
			name, letter, _ := strings.Cut(o, "/")
			names = append(names, name)
			if f := cmd.Flags().ShorthandLookup(letter[:min(1, len(letter))]); letter != "" && (f == nil || f.Name != name) {
				t.Errorf("%s: -%s is not --%s", line, letter, name)
			}
		}
		for _, name := range names[1:] {
			checkPrefixes(t, cmd, line, name, names)
		}
	}
}

func checkPrefixes(t *testing.T, cmd *cobra.Command, line, name string, all []string) {
	t.Helper()
	for end := 1; end <= len(name); end++ {
		prefix, others := name[:end], 0
		for _, n := range all {
			if strings.HasPrefix(n, prefix) && n != name {
				others++
			}
		}
		if (others > 0 && prefix != name) || takenSince[line+" --"+prefix] == name {
			continue
		}
		f, err := (&translator{cmd: cmd}).option("--" + prefix)
		if err != nil || f == nil || f.Name != name {
			t.Errorf("%s: --%s is not --%s: %v", line, prefix, name, err)
		}
	}
}
