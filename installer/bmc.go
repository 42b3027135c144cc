package installer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/clustervision/luna/boot"
)

const (
	// bmcTime is what a BMC may cost a node that boots: it computes without.
	bmcTime = 2 * time.Minute
	// privilegeAdministrator is the level of ipmitool's channel setaccess that
	// Luna 1.2 gave to the user of its BMCs.
	privilegeAdministrator = "4"
	maxBMCPassword         = 20 // bytes (IPMI 2.0, 22.30)
)

// bmcSetup sets up the BMC of this machine through the kernel's driver, by
// ipmitool. It reads before it writes, because a BMC has to be reset after some
// of the changes, and is then gone for a minute: that must not happen at each
// boot.
type bmcSetup struct {
	modprobe, ipmitool string        // programs
	devices            []string      // the driver's, of which one is enough
	patience           time.Duration // for each call of a program
	pause              time.Duration // for the device to appear, and before a failed call is tried again: BMCs have their moods
	log                *slog.Logger
}

func newBMCSetup(log *slog.Logger) bmcSetup {
	return bmcSetup{
		modprobe: "modprobe", ipmitool: "ipmitool",
		devices:  []string{"/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0"}, // as ipmitool looks for them
		patience: 20 * time.Second, pause: 2 * time.Second, log: log,
	}
}

// run makes the BMC as the plan has it. It does as much of it as it can, and the
// error tells all that could not be done.
func (b bmcSetup) run(ctx context.Context, p boot.PlanBMC) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bmcTime, fmt.Errorf("the BMC took more than %s", bmcTime))
	defer cancel()
	if err := b.load(ctx); err != nil {
		return err
	}
	var errs []error
	var lan bool
	if p.Address.IsValid() {
		var err error
		lan, err = b.lan(ctx, p)
		errs = append(errs, err)
	}
	user, err := b.user(ctx, p)
	errs = append(errs, err)
	if lan || user {
		b.log.Info("the BMC is reset, it is away for a minute")
		_, err := b.call(ctx, "mc", "reset", "cold")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// load makes the kernel find the BMC.
func (b bmcSetup) load(ctx context.Context) error {
	if b.device() {
		return nil
	}
	// The last is for BMCs on an SMBus, as on most machines with ARM processors.
	// What fails here may be built into the kernel or of no use on this machine.
	var said []string
	for _, module := range []string{"ipmi_msghandler", "ipmi_devintf", "ipmi_si", "ipmi_ssif"} {
		if _, err := b.execute(ctx, "", b.modprobe, module); err != nil {
			b.log.Warn("a driver for the BMC is not loaded", "module", module, "error", err)
			said = append(said, err.Error())
		}
	}
	for deadline := time.Now().Add(b.pause); !b.device(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("this machine has no BMC that its kernel knows: there is no %s: %s",
				b.devices[0], cmp.Or(strings.Join(said, "; "), "but all drivers are loaded"))
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (b bmcSetup) device() bool {
	return slices.ContainsFunc(b.devices, func(name string) bool {
		_, err := os.Stat(name)
		return err == nil
	})
}

// lan gives the BMC its address, and tells whether that was news to it.
func (b bmcSetup) lan(ctx context.Context, p boot.PlanBMC) (changed bool, err error) {
	if !p.Address.Addr().Is4() {
		return false, fmt.Errorf("the BMC's address %s is not IPv4", p.Address)
	}
	channel := strconv.Itoa(p.NetChannel)
	have, err := b.read(ctx, "lan", "print", channel)
	if err != nil {
		return false, err
	}
	gateway := p.Gateway
	if !gateway.IsValid() {
		gateway = netip.IPv4Unspecified()
	}
	for _, s := range []struct {
		name, want string // in what is printed
		set        []string
	}{
		{"IP Address Source", "Static Address", []string{"ipsrc", "static"}},
		{"IP Address", p.Address.Addr().String(), []string{"ipaddr"}},
		{"Subnet Mask", net.IP(net.CIDRMask(p.Address.Bits(), 32)).String(), []string{"netmask"}},
		{"Default Gateway IP", gateway.String(), []string{"defgw", "ipaddr"}},
	} {
		if have[s.name] == s.want {
			continue
		}
		b.log.Info("the BMC is changed", "setting", s.name, "from", have[s.name], "to", s.want)
		set := append([]string{"lan", "set", channel}, s.set...)
		if s.set[0] != "ipsrc" {
			set = append(set, s.want)
		}
		if _, err := b.call(ctx, set...); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// user gives the BMC its administrator, and tells whether it had another.
func (b bmcSetup) user(ctx context.Context, p boot.PlanBMC) (changed bool, err error) {
	channel, id := strconv.Itoa(p.MgmtChannel), strconv.Itoa(p.UserID)
	have, err := b.read(ctx, "channel", "getaccess", channel, id)
	if err != nil {
		return false, err
	}
	if have["User Name"] != p.User {
		b.log.Info("the BMC is changed", "setting", "name of user "+id, "from", have["User Name"], "to", p.User)
		if _, err := b.call(ctx, "user", "set", "name", id, p.User); err != nil {
			return false, err
		}
		changed = true
	}
	// Whether it is the right one already cannot be relied on: there are BMCs that
	// call every password right. To set it again does no harm and needs no reset.
	if err := b.password(ctx, p); err != nil {
		return changed, err
	}
	// Only what decides on a login is compared: not every BMC keeps the others.
	if have["IPMI Messaging"] != "enabled" || have["Privilege Level"] != "ADMINISTRATOR" {
		b.log.Info("the BMC is changed", "setting", "access of user "+id, "from", have["Privilege Level"], "to", "ADMINISTRATOR")
		if _, err := b.call(ctx, "channel", "setaccess", channel, id, "link=on", "ipmi=on", "callin=on", "privilege="+privilegeAdministrator); err != nil {
			return changed, err
		}
		changed = true
	}
	_, err = b.call(ctx, "user", "enable", id) // not told by all versions of ipmitool
	return changed, err
}

// password sets the user's password. As an argument everybody on the machine
// could read it, scripts left in the background among them, so that ipmitool is
// made to read the command from its input; and as bytes, because it splits a line
// into words by rules of its own. (Set User Password: network function 6, command
// 47h, user, operation 2, 16 bytes; or 20 of them, with bit 7 of the user set.)
func (b bmcSetup) password(ctx context.Context, p boot.PlanBMC) error {
	id, data := p.UserID, make([]byte, 16)
	if len(p.Password) > maxBMCPassword {
		return fmt.Errorf("the password of the BMC's user %q has %d characters, IPMI takes %d", p.User, len(p.Password), maxBMCPassword)
	}
	if len(p.Password) > len(data) {
		id, data = id|0x80, make([]byte, maxBMCPassword)
	}
	copy(data, p.Password)
	var line strings.Builder
	fmt.Fprintf(&line, "raw 0x06 0x47 0x%02x 0x02", id)
	for _, c := range data {
		fmt.Fprintf(&line, " 0x%02x", c)
	}
	line.WriteByte('\n')
	if _, err := b.again(ctx, line.String(), "exec", "/proc/self/fd/0"); err != nil {
		return fmt.Errorf("set the password of the BMC's user %d: %w", p.UserID, err)
	}
	return nil
}

// read runs an ipmitool that prints "name : value" on each line.
func (b bmcSetup) read(ctx context.Context, args ...string) (map[string]string, error) {
	text, err := b.call(ctx, args...)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			values[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return values, nil
}

// call runs ipmitool with nothing secret.
func (b bmcSetup) call(ctx context.Context, args ...string) (string, error) {
	return b.again(ctx, "", args...)
}

// again runs ipmitool up to three times, until it succeeds.
func (b bmcSetup) again(ctx context.Context, input string, args ...string) (string, error) {
	for try := 1; ; try++ {
		out, err := b.execute(ctx, input, b.ipmitool, args...)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return "", errors.New("ipmitool is not in the initrd: install it in the osimage, and pack that again")
		}
		if err == nil || try == 3 || sleep(ctx, b.pause) != nil {
			return out, err
		}
	}
}

// execute runs a program and returns what it prints. Its error holds the last
// thing the program said, and never the input.
func (b bmcSetup) execute(ctx context.Context, input, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.patience, fmt.Errorf("no answer within %s", b.patience))
	defer cancel()
	var out bytes.Buffer
	said := &lastLines{}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, said
	cmd.WaitDelay = scriptGrace
	err := cmd.Run()
	if err == nil {
		return out.String(), nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	} else if lines := said.lines(); len(lines) > 0 {
		err = fmt.Errorf("%s (%w)", lines[len(lines)-1], err)
	}
	return "", fmt.Errorf("%s %s: %w", path.Base(program), strings.Join(args, " "), err)
}
