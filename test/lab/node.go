package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/pin/tftp/v3"
)

// NodeConfig describes a simulated node. Only Name is required.
type NodeConfig struct {
	Name     string
	Network  string           // "" is "lan"
	MAC      net.HardwareAddr // nil is one made of the name
	Firmware Firmware         // BIOS is here a ROM that is not iPXE: it loads iPXE by TFTP
	RateMbit int              // of its card, each direction; 0 is unbounded
}

// Node is a host that boots as a machine does, on the wire: its firmware asks DHCP and loads iPXE,
// iPXE asks DHCP and follows its script, and kernel and initrd are fetched. Then, in place of
// these two, the installer runs with the kernel's command line, as a program on the host.
type Node struct {
	*Host
	config  NodeConfig
	console *console
}

// Booted is what a node has when its kernel would be started.
type Booted struct {
	Lease       Lease    // of iPXE, the last one
	Loader      string   // the name, or URL, of the loader that its firmware ran
	LoaderSize  int64    // in bytes
	Kernel      string   // the path of the file that was fetched
	Initrds     []string // likewise
	CommandLine string   // for the kernel
}

// Lease is what a DHCP server said.
type Lease struct {
	Address    netip.Prefix
	Router     netip.Addr // the zero Addr if there is none
	Server     netip.Addr // who said it (option 54)
	NextServer netip.Addr // who has the file: siaddr, or the server
	File       string     // of BOOTP or option 67: a name for TFTP, or a URL
	Hostname   string     // option 12
	Class      string     // option 60
}

// Node makes a simulated node. It does nothing until [Node.Boot].
func (l *Lab) Node(ctx context.Context, config NodeConfig) (*Node, error) {
	mac := config.MAC
	if mac == nil {
		mac = madeUpMAC(config.Name) // that of a machine of this name
	}
	host, err := l.HostWith(ctx, config.Name, NIC{Network: config.Network, MAC: mac, RateMbit: config.RateMbit})
	if err != nil {
		return nil, err
	}
	n := &Node{Host: host, config: config}
	if err := os.MkdirAll(n.file(""), 0o750); err != nil {
		return nil, fmt.Errorf("lab: node %s: %w", config.Name, err)
	}
	log, err := os.Create(filepath.Join(l.dir, config.Name+".console"))
	if err != nil {
		return nil, fmt.Errorf("lab: node %s: %w", config.Name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = append(l.files, log)
	n.console = newConsole(log)
	return n, nil
}

// file is one of the node's files: they are in the folder of its name in the lab's directory.
func (n *Node) file(name string) string { return filepath.Join(n.lab.dir, n.name, name) }

// Console is what a screen on the node would have shown so far. It is also in NAME.console.
func (n *Node) Console() string { return n.console.String() }

// Boot boots the node as far as its kernel. Like a machine it begins again when it fails at any
// step, until the context ends; the error is then that of the last attempt.
func (n *Node) Boot(ctx context.Context) (Booted, error) {
	for {
		booted, err := n.attempt(ctx)
		if err == nil {
			return booted, nil
		}
		fmt.Fprintf(n.console, "boot failed: %v\n", err)
		if wait(ctx, 3*time.Second) != nil {
			return Booted{}, fmt.Errorf("lab: node %s: %w (%w)", n.name, err, ctx.Err())
		}
	}
}

// attempt boots once.
func (n *Node) attempt(ctx context.Context) (booted Booted, err error) {
	fmt.Fprintf(n.console, "%s %s starts\n", n.config.Firmware, n.MAC())
	lease, err := n.DHCP(ctx, false)
	if err != nil {
		return Booted{}, err
	}
	booted.Loader = lease.File
	if booted.LoaderSize, err = n.loader(ctx, lease); err != nil {
		return Booted{}, err
	}
	x := &ipxe{fetch: n.fetch, out: n.console}
	x.dhcp = func(ctx context.Context) error {
		booted.Lease, err = n.DHCP(ctx, true)
		if err == nil {
			x.settings = n.settings(booted.Lease, x.settings)
		}
		return err
	}
	if err := x.dhcp(ctx); err != nil {
		return Booted{}, err
	}
	if !strings.Contains(booted.Lease.File, "://") {
		return Booted{}, fmt.Errorf("iPXE was told to load %q: a URL is expected", booted.Lease.File)
	}
	if err := x.run(ctx, booted.Lease.File); !errors.Is(err, errBoot) {
		return Booted{}, fmt.Errorf("the script ended without a kernel: %w", err)
	}
	for _, img := range x.images {
		if img.kernel {
			booted.Kernel, booted.CommandLine = img.path, img.args
		} else {
			booted.Initrds = append(booted.Initrds, img.path)
		}
	}
	fmt.Fprintf(n.console, "kernel starts: %s\n", booted.CommandLine)
	return booted, nil
}

// settings are the variables of iPXE that come from the card and the lease, over those of before.
func (n *Node) settings(lease Lease, before map[string]string) map[string]string {
	platform := "pcbios"
	if n.config.Firmware != BIOS {
		platform = "efi"
	}
	mask := net.IP(net.CIDRMask(lease.Address.Bits(), 32)).String()
	settings := map[string]string{
		"platform": platform, "buildarch": "x86_64", "filename": lease.File,
		"next-server": lease.NextServer.String(), "hostname": lease.Hostname,
	}
	for _, scope := range []string{"", "net0/", "netX/"} {
		settings[scope+"mac"] = n.MAC().String()
		settings[scope+"ip"] = lease.Address.Addr().String()
		settings[scope+"netmask"] = mask
		settings[scope+"filename"] = lease.File
		if lease.Router.IsValid() {
			settings[scope+"gateway"] = lease.Router.String()
		}
	}
	for name, value := range before {
		if _, ours := settings[name]; !ours {
			settings[name] = value
		}
	}
	return settings
}

// DHCP does a whole exchange, DISCOVER to ACK, as the node's firmware or as iPXE, and gives the
// card the address and the route. It asks four times before it gives up, as firmware does.
func (n *Node) DHCP(ctx context.Context, asIPXE bool) (Lease, error) {
	const card = "eth0"
	if err := ip(ctx, n.namespace, "address flush dev "+card+" scope global"); err != nil {
		return Lease{}, err
	}
	var client *nclient4.Client
	err := n.Do(func() (err error) {
		client, err = nclient4.New(card, nclient4.WithTimeout(4*time.Second), nclient4.WithRetry(4))
		return err
	})
	if err != nil {
		return Lease{}, fmt.Errorf("DHCP: %w", err)
	}
	defer client.Close()
	answer, err := client.Request(ctx, n.asks(asIPXE)...)
	if err != nil {
		return Lease{}, fmt.Errorf("DHCP: %w", err)
	}
	lease, err := readLease(answer.ACK)
	if err != nil {
		return Lease{}, err
	}
	if !asIPXE && n.config.Firmware == UEFIHTTP && !strings.HasPrefix(lease.Class, "HTTPClient") {
		return Lease{}, fmt.Errorf("DHCP: UEFI HTTP Boot ignores an answer without HTTPClient in option 60: it has %q", lease.Class)
	}
	lines := []string{fmt.Sprintf("address replace %s dev %s", lease.Address, card)}
	if lease.Router.IsValid() {
		lines = append(lines, fmt.Sprintf("route replace default via %s dev %s", lease.Router, card))
	}
	fmt.Fprintf(n.console, "DHCP: %s from %s, to load %s\n", lease.Address, lease.Server, lease.File)
	return lease, ip(ctx, n.namespace, lines...)
}

// asks are the options by which a server knows what asks: PXE 2.1, UEFI 2.10 §24.7, and iPXE's
// user class.
func (n *Node) asks(asIPXE bool) []dhcpv4.Modifier {
	arch, class, undi := iana.INTEL_X86PC, "PXEClient:Arch:00000:UNDI:002001", []byte{1, 2, 1}
	switch n.config.Firmware {
	case UEFI:
		arch, class, undi = iana.EFI_X86_64, "PXEClient:Arch:00007:UNDI:003016", []byte{1, 3, 16}
	case UEFIHTTP:
		arch, class, undi = iana.EFI_X86_64_HTTP, "HTTPClient:Arch:00016:UNDI:003001", []byte{1, 3, 1}
	case BIOS:
	}
	if asIPXE && n.config.Firmware == UEFIHTTP { // once iPXE runs, how it came is forgotten
		arch, class, undi = iana.EFI_X86_64, "PXEClient:Arch:00007:UNDI:003010", []byte{1, 3, 16}
	}
	uuid := append([]byte{0}, make([]byte, 16)...) // type 0, then the machine's, here made of its MAC
	copy(uuid[11:], n.MAC())
	modifiers := []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClientArch(arch)),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)),
		dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionClientNetworkInterfaceIdentifier, undi)),
		dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, uuid)),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
			dhcpv4.OptionHostName, dhcpv4.OptionVendorSpecificInformation, dhcpv4.OptionClassIdentifier,
			dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName),
	}
	if asIPXE {
		// Option 175 holds iPXE's own options; this is 177, the bus: PCI, virtio-net.
		modifiers = append(modifiers, dhcpv4.WithOption(dhcpv4.OptUserClass("iPXE")),
			dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(175), []byte{177, 5, 1, 0x1a, 0xf4, 0x10, 0x00})))
	}
	return modifiers
}

// readLease takes from an ACK what firmware takes.
func readLease(ack *dhcpv4.DHCPv4) (Lease, error) {
	address, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	bits, of := ack.SubnetMask().Size()
	if !ok || of != 32 {
		return Lease{}, fmt.Errorf("DHCP: an answer without address or netmask: %s", ack.Summary())
	}
	lease := Lease{
		Address: netip.PrefixFrom(address, bits), File: ack.BootFileName,
		Hostname: ack.HostName(), Class: ack.ClassIdentifier(),
	}
	if option := strings.TrimRight(ack.BootFileNameOption(), "\x00"); option != "" {
		lease.File = option
	}
	lease.Server, _ = netip.AddrFromSlice(ack.ServerIdentifier().To4())
	if routers := ack.Router(); len(routers) > 0 {
		lease.Router, _ = netip.AddrFromSlice(routers[0].To4())
	}
	lease.NextServer, _ = netip.AddrFromSlice(ack.ServerIPAddr.To4())
	if lease.NextServer.IsUnspecified() || !lease.NextServer.IsValid() {
		lease.NextServer = lease.Server
	}
	return lease, nil
}

// loader loads what the firmware was told to, and forgets it.
func (n *Node) loader(ctx context.Context, lease Lease) (size int64, err error) {
	switch {
	case lease.File == "":
		return 0, errors.New("DHCP: no file to load was named")
	case n.config.Firmware == UEFIHTTP:
		img, err := n.fetch(ctx, lease.File, "loader", time.Minute)
		if err != nil {
			return 0, err
		}
		info, err := os.Stat(img.path)
		if err != nil {
			return 0, err
		}
		size = info.Size()
	default:
		if size, err = n.TFTP(ctx, lease.NextServer, lease.File, io.Discard); err != nil {
			return 0, err
		}
	}
	fmt.Fprintf(n.console, "loader %s: %d bytes\n", lease.File, size)
	return size, nil
}

// TFTP reads a file from a server, as PXE ROMs do: octet, with blksize and tsize.
func (n *Node) TFTP(ctx context.Context, server netip.Addr, file string, to io.Writer) (size int64, err error) {
	client, err := tftp.NewClient(netip.AddrPortFrom(server, 69).String())
	if err != nil {
		return 0, fmt.Errorf("TFTP: %w", err)
	}
	client.SetBlockSize(1468) // what fits an Ethernet frame
	client.RequestTSize(true)
	client.SetTimeout(2 * time.Second)
	var from io.WriterTo
	err = n.Do(func() (err error) {
		from, err = client.Receive(file, "octet")
		return err
	})
	if err == nil {
		size, err = from.WriteTo(&bounded{ctx, to})
	}
	if err != nil {
		return 0, fmt.Errorf("TFTP: %s from %s: %w", file, server, err)
	}
	return size, nil
}

// bounded is a writer that fails when its context has ended.
type bounded struct {
	ctx context.Context
	to  io.Writer
}

func (b *bounded) Write(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.to.Write(p)
}

// fetch gets a file by HTTP: a script if it is to have no name, else to disk under it. It gives up
// when nothing has come for as long as stall. A script may also come by TFTP.
func (n *Node) fetch(ctx context.Context, address, as string, stall time.Duration) (image, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := fmt.Errorf("nothing has come for %s", stall)
	timer := time.AfterFunc(stall, func() { cancel(stalled) })
	defer timer.Stop()
	var text bytes.Buffer
	if as == "" && strings.HasPrefix(address, "tftp://") {
		err := n.readTFTP(ctx, address, &text)
		return image{script: text.String()}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return image{}, err
	}
	request.Header.Set("User-Agent", "iPXE/1.0.0+git")
	response, err := n.HTTP().Do(request)
	if err != nil {
		return image{}, because(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return image{}, fmt.Errorf("%s: %s", address, response.Status)
	}
	to, img := io.Writer(&text), image{}
	if as != "" {
		img.path = n.file(filepath.Base(as))
		f, err := os.Create(img.path)
		if err != nil {
			return image{}, err
		}
		defer f.Close()
		to = f
	}
	_, err = io.Copy(to, &alive{response.Body, timer, stall})
	img.script = text.String()
	return img, because(ctx, err)
}

// alive is a body that pushes a timer on with whatever comes.
type alive struct {
	io.Reader
	timer *time.Timer
	stall time.Duration
}

func (a *alive) Read(p []byte) (int, error) {
	k, err := a.Reader.Read(p)
	if k > 0 {
		a.timer.Reset(a.stall)
	}
	return k, err
}

// because is an error with the reason for which its context was ended, if it was.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// Install starts the installer on the booted node: luna-install, which unpacks into the directory
// root, on the network as it is. The process ends well only when the image is there. More are
// further flags for it. Its output is in NAME-install.log.
func (n *Node) Install(booted Booted, installer, root string, more ...string) (*Process, error) {
	cmdline := n.file("cmdline")
	if err := os.WriteFile(cmdline, []byte(booted.CommandLine+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("lab: node %s: %w", n.name, err)
	}
	argv := append([]string{installer, "--cmdline", cmdline, "--root", root, "--no-network"}, more...)
	return n.Start("install", argv...)
}
