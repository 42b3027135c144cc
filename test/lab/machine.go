package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Firmware is what a machine, real or simulated, begins with.
type Firmware int

const (
	// BIOS is SeaBIOS with the network ROM of QEMU, which is iPXE: it says so in its first
	// DHCP packet (user class) and needs no loader.
	BIOS Firmware = iota
	// UEFI is OVMF with its own PXE client (architecture 7): loader by TFTP, as most real nodes.
	UEFI
	// UEFIHTTP is OVMF with nothing but UEFI HTTP Boot (architecture 16): loader by HTTP.
	UEFIHTTP
)

// String is the name that people use.
func (f Firmware) String() string {
	switch f {
	case BIOS:
		return "BIOS"
	case UEFI:
		return "UEFI"
	case UEFIHTTP:
		return "UEFI HTTP"
	}
	return "firmware " + strconv.Itoa(int(f))
}

const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// MachineConfig describes a machine. Only Name is required.
type MachineConfig struct {
	Name     string
	Network  string           // "" is "lan"
	MAC      net.HardwareAddr // nil is one made of the name
	Firmware Firmware
	// MemoryMiB is 1024 if 0: enough for an image of about 300 MB in tmpfs.
	MemoryMiB int
	// DiskMiB is the size of a disk, which is there before the network has been tried in vain;
	// 0 is no disk. A machine of the same name finds the disk as the one before left it.
	DiskMiB int
	// Life is after what time the machine is killed whatever it does; 0 is half an hour.
	Life time.Duration
	// Kernel, Initrd and CommandLine boot a kernel without firmware's doing, if Kernel is set.
	Kernel, Initrd, CommandLine string
}

// Machine is a QEMU machine that is on, or was.
type Machine struct {
	lab     *Lab
	name    string
	link    *link
	process *Process
	console *console
	keys    io.WriteCloser
}

// Machine plugs a machine into its network and switches it on. Its console goes to the file
// NAME.console in the lab's directory, each line with the seconds since power-on; what QEMU itself
// has to say goes to NAME.log.
//
// A machine that is off, killed or by its own doing, is switched on again by another call with the
// same name: disk and firmware variables are then those of before.
func (l *Lab) Machine(ctx context.Context, config MachineConfig) (*Machine, error) {
	l.making.Lock()
	defer l.making.Unlock()
	if err := l.mayBeMachine(config.Name); err != nil {
		return nil, err
	}
	m := &Machine{lab: l, name: config.Name}
	var err error
	m.link, err = l.tap(ctx, config)
	if err == nil {
		err = m.switchOn(config)
	}
	if err != nil {
		return nil, fmt.Errorf("lab: machine %s: %w", m.name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.machines[m.name] = m
	return m, nil
}

// mayBeMachine tells whether a machine can be switched on under a name.
func (l *Lab) mayBeMachine(machineName string) error {
	if !name.MatchString(machineName) {
		return fmt.Errorf("lab: machine %q: want 1 to 11 lower-case letters, digits and dashes", machineName)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.machines[machineName]
	switch {
	case l.hosts[machineName] != nil:
		return fmt.Errorf("lab: %s exists already, as a host", machineName)
	case before != nil && before.Running():
		return fmt.Errorf("lab: machine %s is on", machineName)
	}
	return nil
}

// tap makes the machine's end of the cable. It stays when the machine goes off.
func (l *Lab) tap(ctx context.Context, config MachineConfig) (*link, error) {
	if k := l.taps[config.Name]; k != nil {
		return k, nil
	}
	bridge, err := l.network(ctx, config.Network)
	if err != nil {
		return nil, err
	}
	k := &link{lab: l, port: config.Name + ".0", mac: config.MAC}
	if k.mac == nil {
		k.mac = madeUpMAC(config.Name)
	}
	if err := ip(ctx, l.bridges(), "tuntap add dev "+k.port+" mode tap", "link set "+k.port+" master "+bridge+" up"); err != nil {
		return nil, err
	}
	l.taps[config.Name] = k
	return k, nil
}

// arguments is QEMU's command line.
func (m *Machine) arguments(config MachineConfig) ([]string, error) {
	memory := config.MemoryMiB
	if memory == 0 {
		memory = 1024
	}
	args := []string{
		"qemu-system-x86_64", "-name", m.name,
		// graphics=off puts firmware and loader on the serial line. tb-size bounds the memory for
		// translated code, of which the default is more than a guest's own.
		"-machine", "q35,graphics=off", "-accel", "tcg,thread=multi,tb-size=256", "-smp", "1", "-m", strconv.Itoa(memory),
		"-display", "none", "-vga", "none", "-nodefaults", "-monitor", "none",
		"-pidfile", m.file("pid"),
		"-netdev", "tap,id=n0,script=no,downscript=no,ifname=" + m.link.port,
		"-device", "virtio-net-pci,netdev=n0,bootindex=1,mac=" + m.link.mac.String(),
		"-object", "rng-random,id=r0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=r0",
		"-chardev", "stdio,id=s0,signal=off", "-serial", "chardev:s0",
	}
	if config.Kernel != "" {
		args = append(args, "-kernel", config.Kernel, "-append", config.CommandLine)
		if config.Initrd != "" {
			args = append(args, "-initrd", config.Initrd)
		}
	}
	if config.DiskMiB > 0 {
		if err := m.disk(int64(config.DiskMiB) << 20); err != nil {
			return nil, err
		}
		args = append(args, "-device", "virtio-blk-pci,drive=d0,bootindex=2",
			"-drive", "if=none,id=d0,format=raw,cache=unsafe,file="+m.file("disk"))
	}
	switch config.Firmware {
	case BIOS:
		// When all has been tried in vain: again from the start, after three seconds.
		args = append(args, "-boot", "reboot-timeout=3000")
	case UEFI, UEFIHTTP:
		if err := m.variables(); err != nil {
			return nil, err
		}
		args = append(args, "-drive", "if=pflash,format=raw,readonly=on,file="+ovmfCode,
			"-drive", "if=pflash,format=raw,file="+m.file("vars"),
			"-global", "virtio-net-pci.romfile=", // else iPXE takes the place of OVMF's own client
			// Minutes of waiting for what the lab never offers, when IPv4 was in vain.
			"-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n")
	default:
		return nil, fmt.Errorf("no such firmware: %s", config.Firmware)
	}
	if config.Firmware == UEFIHTTP {
		args = append(args, "-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n")
	}
	return args, nil
}

// switchOn starts QEMU.
func (m *Machine) switchOn(config MachineConfig) error {
	args, err := m.arguments(config)
	if err != nil {
		return err
	}
	consoleLog, err := os.Create(m.file("console"))
	if err != nil {
		return err
	}
	errorLog, err := os.Create(m.file("log"))
	if err != nil {
		return errors.Join(err, consoleLog.Close())
	}
	defer errorLog.Close()
	life := config.Life
	if life == 0 {
		life = 30 * time.Minute
	}
	// The machine's life is its own, and not that of the call that switches it on.
	ctx, cancel := context.WithTimeout(context.Background(), life)
	cmd := inNamespace(ctx, m.lab.bridges(), args)
	m.console = newConsole(consoleLog)
	cmd.Stdout, cmd.Stderr = m.console, errorLog
	if m.keys, err = cmd.StdinPipe(); err == nil {
		m.process, err = m.lab.start(m.name, m.file("log"), cmd)
	}
	if err != nil {
		cancel()
		return errors.Join(err, consoleLog.Close())
	}
	go func() {
		if config.Firmware != BIOS {
			m.againFromShell()
		}
		<-m.process.Done()
		cancel()
		m.console.end()
		consoleLog.Close()
	}()
	return nil
}

// againFromShell resets the machine whenever OVMF, having tried everything in vain, sits in its
// shell: the firmware of real nodes begins again by itself, as that of the BIOS machines here does.
func (m *Machine) againFromShell() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for seen := 0; ; {
		select {
		case <-m.process.Done():
			return
		case <-ticker.C:
		}
		if count := strings.Count(m.Console(), "\nShell> "); count > seen {
			seen = count
			_ = m.Send("reset\r") // fails only for a machine that goes off
		}
	}
}

// disk makes the machine's disk, empty, if it has none yet. It is a file with holes: it takes
// as much space as has been written.
func (m *Machine) disk(size int64) error {
	f, err := os.OpenFile(m.file("disk"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// variables makes the machine's own copy of the firmware's memory, if it has none yet.
func (m *Machine) variables() error {
	if _, err := os.Stat(m.file("vars")); err == nil {
		return nil
	}
	vars, err := os.ReadFile(ovmfVars)
	if err != nil {
		return fmt.Errorf("UEFI firmware: %w (package ovmf, see make deps)", err)
	}
	return os.WriteFile(m.file("vars"), vars, 0o600)
}

// file is one of the machine's files in the lab's directory.
func (m *Machine) file(kind string) string { return filepath.Join(m.lab.dir, m.name+"."+kind) }

// Name is the machine's name in the lab.
func (m *Machine) Name() string { return m.name }

// MAC is the address of its network card.
func (m *Machine) MAC() net.HardwareAddr { return m.link.mac }

// Console is all that the machine has printed since it was switched on, as plain text.
func (m *Machine) Console() string { return m.console.String() }

// WaitFor waits until the pattern matches what the machine prints, and returns the line in which
// it does. Each call begins where the match of the one before ended, so that calls in a row follow
// the order of events, and a word that was seen once is not seen again. If the machine goes off,
// or the context ends, the error says so and shows the last lines.
func (m *Machine) WaitFor(ctx context.Context, pattern *regexp.Regexp) (line string, err error) {
	if line, err = m.console.waitFor(ctx, pattern); err != nil {
		return "", fmt.Errorf("lab: machine %s: %w%s", m.name, err, m.complaints())
	}
	return line, nil
}

// complaints is what QEMU printed, which explains a machine that does not start.
func (m *Machine) complaints() string {
	if text, err := os.ReadFile(m.file("log")); err == nil && len(text) > 0 {
		return "\nqemu: " + strings.TrimSpace(string(text))
	}
	return ""
}

// Send types a text on the serial line; a newline is the return key.
func (m *Machine) Send(text string) error {
	if _, err := io.WriteString(m.keys, text); err != nil {
		return fmt.Errorf("lab: type on machine %s: %w", m.name, err)
	}
	return nil
}

var (
	loginPrompt = regexp.MustCompile(`login: `)
	shellPrompt = regexp.MustCompile(`\w@[\w.-]+:\S*[#$] `)
)

// Login waits for the login prompt and logs in as a user who has no password.
func (m *Machine) Login(ctx context.Context, user string) error {
	if _, err := m.WaitFor(ctx, loginPrompt); err != nil {
		return err
	}
	if err := m.Send(user + "\n"); err != nil {
		return err
	}
	_, err := m.WaitFor(ctx, shellPrompt)
	return err
}

// Run runs one line of shell on a machine that is logged in, and returns what it printed. A
// code other than 0 is an error. Words of the kernel may come between.
func (m *Machine) Run(ctx context.Context, command string) (output string, err error) {
	// The marks are typed in two halves, so that the echo of the typing does not match.
	line := fmt.Sprintf("echo lab-'begin'; %s; echo lab-'end'=$?.\n", command)
	if err := m.Send(line); err != nil {
		return "", err
	}
	found, err := m.WaitFor(ctx, regexp.MustCompile(`(?s)lab-begin\n.*lab-end=\d+\.`))
	if err != nil {
		return "", err
	}
	_, found, _ = strings.Cut(found, "lab-begin\n")
	at := strings.LastIndex(found, "lab-end=")
	code := strings.TrimSuffix(found[at+len("lab-end="):], ".")
	if output = found[:at]; code != "0" {
		return output, fmt.Errorf("lab: machine %s: %s: exit code %s: %s", m.name, command, code, strings.TrimSpace(output))
	}
	return output, nil
}

// Running tells whether the machine is on.
func (m *Machine) Running() bool { return m.process.Running() }

// Kill switches the machine off without a warning.
func (m *Machine) Kill() { m.process.Kill9() }

// Cut pulls the machine's network cable.
func (m *Machine) Cut(ctx context.Context) error { return m.link.cut(ctx) }

// Heal plugs the cable in again.
func (m *Machine) Heal(ctx context.Context) error { return m.link.restore(ctx) }

// CPU is the processor time that the machine has taken so far: on a busy host a better measure
// than the clock. It is 0 for a machine that is off.
func (m *Machine) CPU() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.process.Pid()))
	if err != nil || !m.Running() {
		return 0
	}
	// The second field, the program's name, is in parentheses and may contain anything; user and
	// system time are the 14th and 15th (proc(5)), in hundredths of a second.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err1 != nil || err2 != nil {
		return 0
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
