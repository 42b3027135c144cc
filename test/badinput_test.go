package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadInput: what cannot be done is refused with one line and the exit code of
// Luna 1.2, and changes nothing. (A plan that is cut off is the installer's: see
// TestParsePlanTruncated there.)
func TestBadInput(t *testing.T) {
	s := newMesh(t, "badinput", 2)
	h := s.Heads[1] // which does not lead: a refusal takes a hop, as a write does
	tree := kernelTree(t, s.Lab)
	empty := filepath.Join(s.Lab.Dir(), "empty")
	must(t, os.Mkdir(empty, 0o755))
	file := filepath.Join(tree, "boot/vmlinuz-6.1.0")
	_, err := s.ServeDHCP(t.Context())
	must(t, err)
	addGroup(t, h, tree)
	luna(t, h, "group", "add", "-n", "other", "-o", "compute", "-N", "cluster")
	luna(t, h, "node", "add", "-g", "compute", "-n", "node[001-003]")
	luna(t, h, "network", "add", "-n", "tiny", "-N", "10.50.0.0", "-P", "30")
	luna(t, h, "group", "add", "-n", "tiny", "-o", "compute", "-N", "tiny")
	luna(t, h, "node", "change", "node001", "--mac", "52:54:00:00:00:01")
	luna(t, h, "network", "change", "cluster", "--reserve", "10.30.0.250")
	before, err := everything(t.Context(), h)
	must(t, err)

	// Words: {tree}, {empty} and {file} stand for paths.
	for _, c := range []struct {
		line  string
		code  int
		words string
	}{
		{"node show nosuch", 255, "Object 'nosuch' of type 'node' does not exist"},
		{"node show node[001", 255, "bad selection 'node[001'"},
		{"node show node[003-001]", 255, "bad selection"},
		{"node delete node[001-009]", 255, "Object 'node004' of type 'node' does not exist"},
		{"node add -g nosuch", 255, "Object 'nosuch' of type 'group' does not exist"},
		{"node add -g compute -n node001", 255, "'node001' is already created"},
		{"node add -g compute -n node[003-005]", 255, "'node003' is already created"},
		{"node add -g compute -n a,b,!", 255, "a name is missing at a comma"},
		{"node add -g compute -n node[000001-999999]", 255, "more than 100000 names"},
		{"node add -g tiny -n tiny[1-9]", 255, "has none left"},
		{"node add -g compute -n node009 --mac 52:54:00", 255, "Invalid MAC address '52:54:00'"},
		{"node add -g compute -n node[008-009] --mac 52:54:00:00:00:09", 255, "one MAC address cannot be that of 2 nodes"},
		{"node change node002 --mac xyz", 255, "Invalid MAC address 'xyz'"},
		{"node change node[001-002] --mac 52:54:00:00:00:09", 255, "one MAC address cannot be that of 2 nodes"},
		{"node change node002 -i BOOTIF 10.99.0.1", 1, "10.99.0.1"},
		{"node change node002 -i BOOTIF 10.30.0.1", 1, "node 'node001'"},
		{"node change node002 -i BOOTIF 10.30.0.250", 1, "a reservation"},
		{"node change node002 -i BOOTIF 10.30.300.1", 255, "'10.30.300.1' is no IP address"},
		{"node change node002 -i NOIF 10.30.0.9", 1, "No such interface 'NOIF'"},
		{"node change node002 -g nosuch", 255, "Object 'nosuch' of type 'group' does not exist"},
		{"node rename node002 --newname node001", 1, "Object 'node001' exists already"},
		{"node rename node002 --newname -", 255, "'-' cannot name a node"},
		{"node show", 2, "the following arguments are required: NAME"},
		{"node add -n node009", 2, "group"},
		{"node list --nosuch", 2, "nosuch"},
		{"node list -o xml", 2, "xml"},
		{"node frobnicate", 2, "invalid choice: 'frobnicate'"},
		{"frobnicate", 2, "invalid choice: 'frobnicate'"},

		{"network show nosuch", 255, "Object 'nosuch' of type 'network' does not exist"},
		{"network add -n cluster -N 10.40.0.0 -P 16", 255, "'cluster' is already created"},
		{"network add -n two -N 10.300.0.0 -P 16", 255, "'10.300.0.0' is no IP address"},
		{"network add -n two -N 10.40.0.0 -P 33", 255, "Prefix should be in the range [1..30]"},
		{"network add -n two -N 10.40.0.0 -P many", 2, "many"},
		{"network add -n two -N 10.30.128.0 -P 24", 255, "overlaps network 'cluster'"},
		{"network add -n two/three -N 10.40.0.0 -P 16", 255, "'two/three' cannot name a network"},
		{"network change cluster -N 10.40.0.0 -P 24", 255, "has no place in"},
		{"network change cluster --reserve 10.31.0.1", 1, "10.31.0.1 is no address of network 'cluster'"},
		{"network change cluster --release 10.30.0.77", 1, "10.30.0.77 is not reserved"},
		{"network delete cluster", 1, "[group/compute]"},
		{"cluster makedhcp -N cluster -s 10.31.0.1 -e 10.31.0.9", 1, "10.31.0.1 is no address of network 'cluster'"},
		{"cluster makedhcp -N cluster -s 10.30.128.9 -e 10.30.128.1", 1, "Wrong range definition"},
		{"cluster makedhcp -N cluster -s 10.30.0.1 -e 10.30.0.9", 1, "10.30.0.1 lies in the range 10.30.0.1-10.30.0.9 and is taken by node 'node001'"},
		{"cluster makedhcp -N cluster -s start -e 10.30.0.9", 255, "'start' is no IP address"},
		{"cluster makedhcp -N nosuch -s 10.30.0.1 -e 10.30.0.9", 255, "Object 'nosuch' of type 'network' does not exist"},
		{"cluster makedhcp -N cluster -s 10.30.0.1", 1, "Network range should be specified"},
		{"cluster change --frontend_address here", 255, "'here' is no IP address"},
		{"cluster change --nodedigits 77", 255, "nodedigits should be in the range [1..9]"},
		{"cluster init --frontend_address 10.30.255.253", 255, "'general' is already created"},

		{"osimage show nosuch", 255, "Object 'nosuch' of type 'osimage' does not exist"},
		{"osimage add -n two -p /nowhere", 255, "'/nowhere' is not a valid directory"},
		{"osimage add -n two -p {file}", 255, "is not a valid directory"},
		{"osimage add -n two -p {empty}", 255, "No kernels installed in"},
		{"osimage add -n two -p {tree}", 255, "Path belongs to osimage 'compute'"},
		{"osimage add -n compute -p {tree}", 255, "'compute' is already created"},
		{"osimage add -n two -p {tree}/. -k 9.9.9", 255, "Available kernels are '[6.1.0]', not '9.9.9'"},
		{"osimage change compute -k 6.1.0 -p {empty}", 2, "none of the others can be"},
		{"osimage pack nosuch", 255, "Object 'nosuch' of type 'osimage' does not exist"},
		{"osimage pack compute", 1, "dracut"},
		{"osimage delete compute", 1, "[group/compute]"},

		{"group show nosuch", 255, "Object 'nosuch' of type 'group' does not exist"},
		{"group add -n compute -o compute -N cluster", 255, "'compute' is already created"},
		{"group add -n two -o nosuch -N cluster", 255, "Object 'nosuch' of type 'osimage' does not exist"},
		{"group add -n two -o compute -N nosuch", 255, "Object 'nosuch' of type 'network' does not exist"},
		{"group change compute -o nosuch", 255, "Object 'nosuch' of type 'osimage' does not exist"},
		{"group change compute -i NOIF --setnet cluster", 1, "NOIF"},
		{"group change compute -i BOOTIF --add", 1, "BOOTIF"},
		{"group delete compute", 1, "[node/node001]"},

		{"head show nosuch", 255, "Object 'nosuch' of type 'head' does not exist"},
		{"head remove nosuch", 255, "Object 'nosuch' of type 'head' does not exist"},
		{"head invite --ttl 1ms", 255, "a token may live from one second to 30 days"},
		{"head invite --ttl soon", 2, "soon"},
		{"head change h1 --weight 0", 255, "the weight of a head is 1 to 100, not 0: `luna head drain h1` is what takes all duties"},
		{"head change h1 --weight 101", 255, "the weight of a head is 1 to 100, not 101"},
		{"head change h1 --weight many", 2, "it is no whole number"},
		{"head change nosuch --weight 2", 255, "Object 'nosuch' of type 'head' does not exist"},
		{"head drain nosuch", 255, "Object 'nosuch' of type 'head' does not exist"},
		{"head drain h1 --wait -1s", 255, "nothing can wait for -1s"},
		{"head drain h1 --wait long", 2, "it is no time: give one such as 90s"},
		{"head undrain nosuch", 255, "Object 'nosuch' of type 'head' does not exist"},
		{"head replace nosuch --force", 255, "Object 'nosuch' of type 'head' does not exist"},
		{"leave --wait -1s", 255, "nothing can wait for -1s"},
		{"leave h2", 2, "unrecognized arguments: h2"},
		{"--timeout -1s head list", 2, "-1s is no time to wait"},
		{"cluster safe nosuch", 255, "Object 'nosuch' of type 'head' does not exist"},
		{"cluster backup {empty}", 1, "is there and is no file"},
		{"cluster backup /nowhere/backup", 1, "no such file or directory"},
		{"cluster backup /nowhere/backup --passphrase-file {empty}", 1, "is a directory"},
		{"cluster restore {empty}", 1, "is a directory"},
		{"cluster restore /nowhere", 1, "no such file or directory"},
		{"cluster restore -", 255, "there is nothing in the backup"},
		{"cluster restore {file}", 1, "already a member"},
		{"cluster recover", 1, "--others-are-lost"},
		{"join 10.30.255.254 --token -", 255, "there is no token"},
		{"join 10.30.255.254 --token hello", 1, "already a member"},
		{"join 10.30.255.254", 2, "token"},
		{"--server http://10.30.255.254 node list", 2, "is no address"},
		{"--server unix:///nowhere node list", 1, "nobody listens on /nowhere"},
		{"agent --name h9 --data-dir relative/../.. --bind nowhere", 78, "'nowhere' is no IP address"},
		{"agent --config /nowhere", 78, "/nowhere"},
	} {
		t.Run(c.line, func(t *testing.T) {
			args := strings.Fields(strings.NewReplacer("{tree}", tree, "{empty}", empty, "{file}", file).Replace(c.line))
			_, err := h.Luna(t.Context(), args...)
			refused(t, err, c.code, c.words)
		})
	}
	unchanged(t, h, before)
	unchanged(t, s.Heads[0], before)
	if got := names(t, h); got != "h1 h2" {
		t.Errorf("the heads are %s after all that, want h1 h2", got)
	}
}
