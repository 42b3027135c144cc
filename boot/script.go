package boot

import (
	"bytes"
	"embed"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"text/template"
	"time"

	"github.com/clustervision/luna/inventory"
)

//go:embed templates
var templateFiles embed.FS

// templates are the scripts that machines read; goldens under testdata show
// what becomes of them.
//
// The iPXE ones use only what Debian 12's build of 2019 has (no https, params,
// imgverify, console). Its grammar in short: a line ends at a failed command
// unless something is joined to it, "a || b || c" runs until one succeeds, an
// empty command succeeds, a word that begins with '#' ends the line, and "chain
// --replace" leaves the script for good once the next one has been fetched.
// --timeout is in milliseconds without any progress: without it a head that
// dies in the middle of an answer is waited for for ever.
var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"quote":   quote,
	"netmask": func(p netip.Prefix) string { return net.IP(net.CIDRMask(p.Bits(), p.Addr().BitLen())).String() },
	"comment": func(s string) string { return "#   " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n#   ") },
}).ParseFS(templateFiles, "templates/*"))

func render(name string, data any) string {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		panic(err) // a template and its data do not fit: a bug that any golden test shows
	}
	return b.String()
}

// quote makes one word of the shell out of any text.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

const (
	// initrdName is the initrd's name inside iPXE. A kernel with an EFI stub
	// finds it only by initrd=NAME on its command line; under a BIOS that
	// argument does nothing.
	initrdName = "initrd.img"
	// fetchRounds times 5 s of sleep is how long the boot script goes on
	// asking all heads: at least 75 s, for a switch port with spanning tree
	// forwards nothing for 30 to 50 s after its link has come up.
	fetchRounds = 15
	// menuTimeout is how long the menu waits for a key, as in Luna 1.2.
	menuTimeout = 10 * time.Second
	// promptTimeout is how long a known node waits for the key that opens the
	// menu: for a finger that is on it already. Every boot pays for it.
	promptTimeout = 1500 * time.Millisecond
	// maxCmdline is what a kernel on x86 takes (COMMAND_LINE_SIZE less the end
	// mark); it cuts off the rest without a word.
	maxCmdline = 2047
	// maxKernelHeads bounds luna.heads= for the sake of maxCmdline. The plan
	// names all heads.
	maxKernelHeads = 8
)

// FirstScript gives the iPXE script that leads the machine to its menu, on
// whichever head is there.
//
// DHCP can name one place to load from, and a head that dies between its answer
// and the machine's next question would cost the machine its boot: iPXE tries
// that URL once and hands back to the firmware. So the place that DHCP names is
// the network's broadcast address, by TFTP, which iPXE asks again and again for
// some 15 s, and of which it takes the first answer, whoever sends it. RFC 1123
// §4.2.3.4 wants such requests ignored, for the sake of networks on which many
// would answer; here the head that answers DHCP does, and nobody else.
func (s Site) FirstScript(mac inventory.MAC) string {
	heads := s.heads(mac, s.At, nil)
	return render("first.ipxe", struct {
		Scheme, Path string
		Heads        []string
	}{Scheme(s.Inventory), menuPath(mac), heads[:min(len(heads), maxKernelHeads)]})
}

// Menu gives the iPXE menu for the machine of that MAC: seven items, of which
// the default asks what to boot. An unknown machine goes on asking, every 13 s;
// a known one asks at once, unless somebody presses a key.
//
// list puts the names of all nodes in it, which is what a menu is for where
// somebody sits before it; but it grows with the site and every unknown machine
// fetches its menu again and again, so it comes only when asked for, or where
// no MAC is given.
func (s Site) Menu(mac inventory.MAC, list bool) string {
	data := struct {
		MAC     inventory.MAC
		Node    string
		Timeout int64 // of the menu, ms
		Prompt  int64 // before it, ms
		List    bool  // the nodes are in it
		Asked   bool  // and somebody waits to see them
		Items   string
		Heads   []string
		Scheme  string
		Path    string
	}{Scheme: Scheme(s.Inventory), MAC: mac, Timeout: menuTimeout.Milliseconds(), Prompt: promptTimeout.Milliseconds(), List: list || mac == "", Asked: list, Heads: s.heads(mac, s.At, nil), Path: menuPath(mac)}
	if n, ok := s.Inventory.NodeByMAC(mac); ok && mac != "" {
		data.Node = n.Name
	}
	if data.List {
		data.Items = s.nodeItems()
	}
	return render("menu.ipxe", data)
}

// nodeItems gives a menu item for each node. It is not left to the template,
// which takes a tenth of a second for ten thousand.
func (s Site) nodeItems() string {
	var b strings.Builder
	for n := range s.Inventory.Nodes() {
		b.WriteString("item " + n.Name + " " + n.Name + "\n")
	}
	return b.String()
}

// BootScript gives the iPXE script that boots the node: its own disk, or the
// kernel and the initrd of its osimage, from whichever head has them. Where
// there is nothing to boot the script says so on the console and asks again.
func (s Site) BootScript(n *inventory.Node, token string) string {
	if n.LocalBoot {
		return render("localboot.ipxe", struct{ Node string }{n.Name})
	}
	at := s.where(n)
	data := struct {
		Node, Image, Version, Reason, Args, Initrd, Scheme, Path string
		Rounds                                                   int
		Heads, Next                                              []string // Next: the label to go to where the head fails
	}{Node: n.Name, Initrd: initrdName, Scheme: Scheme(s.Inventory), Path: menuPath(n.MAC), Rounds: fetchRounds}
	image, version, err := s.version(n)
	if err == nil {
		data.Args, err = s.kernelArgs(n, image, version, token)
	}
	if err != nil {
		data.Reason, data.Heads = err.Error(), s.heads(n.MAC, at, nil)
		return render("wait.ipxe", data)
	}
	data.Image, data.Version, data.Heads = image.Name, version.ID, s.heads(n.MAC, at, version)
	for i := range data.Heads[1:] {
		data.Next = append(data.Next, fmt.Sprintf("head%d", i+1))
	}
	data.Next = append(data.Next, "again")
	return render("boot.ipxe", data)
}

// Syslinux gives the same as a pxelinux configuration, for firmware that reads
// that (petitboot on OpenPOWER). It cannot try one head after the other, so it
// names one that has the files. The error says why there is nothing to boot.
func (s Site) Syslinux(n *inventory.Node, token string) (string, error) {
	data := struct {
		Node, Head, Scheme, Version, Args string
		LocalBoot                         bool
	}{Node: n.Name, Scheme: Scheme(s.Inventory), LocalBoot: n.LocalBoot}
	if n.LocalBoot {
		return render("syslinux.cfg", data), nil
	}
	image, version, err := s.version(n)
	if err != nil {
		return "", err
	}
	heads := s.heads(n.MAC, s.where(n), version)
	if data.Args, err = s.kernelArgs(n, image, version, token); err != nil {
		return "", err
	}
	data.Version, data.Head = version.ID, heads[0]
	return render("syslinux.cfg", data), nil
}

// Withheld says why the node may not have the address yet, which is its own: another
// machine may still be offered it. "" where it may. now is by the mesh's clock.
func Withheld(inv *inventory.Inventory, n *inventory.Node, address netip.Addr, now time.Time) string {
	switch had, ok := inv.RetiredFrom(address, n.MAC); {
	case !ok:
		return ""
	case !had.Until.IsZero():
		return fmt.Sprintf("%s is leased to %s for up to %s more: node '%s' gets it then", address, had.MAC, had.Until.Sub(now).Round(time.Second), n.Name)
	default:
		return fmt.Sprintf("%s was the address of %s until lately, and a head that has not heard of the change may still give it to that machine: node '%s' gets it when all heads know, or when those that are away are removed", address, had.MAC, n.Name)
	}
}

// version gives what the node boots. The refusal says what is missing. It has no other
// address to boot with than its own, which must be its own alone, as for DHCP.
func (s Site) version(n *inventory.Node) (*inventory.OSImage, *inventory.ImageVersion, error) {
	if _, address, ok := s.bootAddress(n); ok {
		if why := Withheld(s.Inventory, n, address.Addr(), s.Inventory.Clock()); why != "" {
			return nil, nil, inventory.Errorf(inventory.KindRefused, "node", n.Name, "%s", why)
		}
	}
	g, ok := s.Inventory.GroupByID(n.Group)
	if !ok {
		return nil, nil, inventory.Errorf(inventory.KindRefused, "node", n.Name, "node '%s' is in no group", n.Name)
	}
	image, ok := s.Inventory.OSImageByID(g.OSImage)
	if !ok {
		return nil, nil, inventory.Errorf(inventory.KindRefused, "group", g.Name, "group '%s' has no osimage: luna group change %s --osimage IMAGE", g.Name, g.Name)
	}
	if v, ok := s.Inventory.BootVersion(image.ID); ok {
		return image, v, nil
	}
	held := 0
	for v := range s.Inventory.VersionsOf(image.ID) {
		held = max(held, len(v.Holders))
	}
	if held == 0 {
		return nil, nil, inventory.Errorf(inventory.KindRefused, "osimage", image.Name, "osimage '%s' is not packed: luna osimage pack %s", image.Name, image.Name)
	}
	return nil, nil, inventory.Errorf(inventory.KindRefused, "osimage", image.Name,
		"osimage '%s' is packed and cannot be booted yet: %d of %d heads have fetched it", image.Name, held, s.Inventory.Replicas())
}

// kernelArgs gives the kernel's command line: what Luna 1.2 put there, in its
// order, with luna-install's additions before the image's own options, so that
// those can override them.
func (s Site) kernelArgs(n *inventory.Node, image *inventory.OSImage, version *inventory.ImageVersion, token string) (string, error) {
	if !plainWords(image.KernOpts) {
		return "", inventory.Errorf(inventory.KindRefused, "osimage", image.Name,
			"the kernel options of osimage '%s' hold a word that iPXE would take for its own: luna osimage change %s --kernopts OPTIONS", image.Name, image.Name)
	}
	at := s.where(n)
	args := []string{"root=luna"}
	if _, address, ok := s.bootAddress(n); ok && n.MAC != "" {
		at = address.Masked() // the only network that the node is on then; iPXE may have asked on another
		args = append(args, "luna.bootproto=static", "luna.mac="+string(n.MAC), "luna.ip="+address.String())
	} else {
		args = append(args, "luna.bootproto=dhcp")
	}
	heads := s.headsForLong(n.MAC, at, nil)
	service := 0
	if n.Service {
		service = 1
	}
	args = append(args,
		"luna.url="+Scheme(s.Inventory)+"://"+heads[0]+"/luna",
		"luna.node="+n.Name,
		"luna.hostname="+s.Inventory.Hostname(n),
		fmt.Sprintf("luna.service=%d", service),
		"initrd="+initrdName,
		"luna.version="+version.ID,
		"luna.token="+token,
		"luna.heads="+strings.Join(heads[:min(len(heads), maxKernelHeads)], ","))
	line := strings.Join(append(args, strings.Fields(image.KernOpts)...), " ")
	if len(line) > maxCmdline {
		return "", inventory.Errorf(inventory.KindRefused, "osimage", image.Name,
			"the kernel command line of node '%s' would be %d bytes long and the kernel takes %d: shorten the kernel options of osimage '%s'", n.Name, len(line), maxCmdline, image.Name)
	}
	return line, nil
}

// plainWords tells whether iPXE passes the words on as they are. It has no way
// to quote: it splits at blanks, joins commands by ||, && and ;, takes # for a
// comment and expands ${}.
func plainWords(s string) bool {
	for _, w := range strings.Fields(s) {
		if w == "||" || w == "&&" || w == ";" || w[0] == '#' || strings.Contains(w, "${") {
			return false
		}
	}
	return true
}
