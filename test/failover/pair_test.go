package failover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// pair is two of ISC's dhcpd that share a pool, as Luna exports them.
type pair struct {
	lab     *lab.Lab
	book    *book
	program string
	servers [2]server
}

// exportPair writes the configuration of a pair of the heads h1 and h2, and gives
// the directory.
func (m *mesh) exportPair(tb testing.TB) (dir string) {
	tb.Helper()
	dir = tb.TempDir()
	luna(tb, m.Heads[0], "cluster", "makedhcp", "--native_dhcp_ha", "--export", dir)
	return dir
}

// newPair starts the pair, at the addresses of h1 and h2, and waits until it is one.
func newPair(tb testing.TB, conf string) *pair {
	tb.Helper()
	ctx := tb.Context()
	program, err := exec.LookPath("dhcpd")
	if err != nil {
		tb.Fatal("dhcpd is not installed: run make deps")
	}
	p := &pair{lab: labtest.New(tb, "pair"), book: newBook(), program: filepath.Join(tb.TempDir(), "dhcpd")}
	// A copy: Debian's AppArmor profile keeps the one in its place from our files.
	text, err := os.ReadFile(program)
	must(tb, err)
	must(tb, os.WriteFile(p.program, text, 0o755))
	for i, file := range []string{"dhcpd.conf", "dhcpd-secondary.conf"} {
		s := server{name: fmt.Sprintf("dhcpd%d", i+1), addr: netip.AddrFrom4([4]byte{10, 30, 255, byte(254 - i)})}
		s.host, err = p.lab.Host(ctx, s.name, netip.PrefixFrom(s.addr, 16))
		must(tb, err)
		text, err := os.ReadFile(filepath.Join(conf, file))
		must(tb, err)
		must(tb, os.WriteFile(p.file(s.name+".conf"), text, 0o644))
		must(tb, os.WriteFile(p.file(s.name+".leases"), nil, 0o644))
		p.servers[i] = s
		must(tb, p.start(&p.servers[i]))
	}
	must(tb, p.settle(ctx))
	return p
}

func (p *pair) file(name string) string { return filepath.Join(p.lab.Dir(), name) }

// start starts one. Without -d it logs to syslog, where nobody listens: to print each
// packet would be part of what is measured.
func (p *pair) start(s *server) (err error) {
	s.process, err = s.host.Start("dhcpd", p.program, "-4", "-f", "-cf", p.file(s.name+".conf"), "-lf", p.file(s.name+".leases"), "--no-pid", "eth0")
	return err
}

// settle waits until both say, in their lease files, that both are in normal
// operation.
func (p *pair) settle(ctx context.Context) error {
	return site.Until(ctx, 2*time.Minute, "the pair is in normal operation", func() error {
		for _, s := range p.servers {
			if !s.process.Running() {
				return fmt.Errorf("%s has ended: see %s", s.name, s.process.Log())
			}
			text, err := os.ReadFile(p.file(s.name + ".leases"))
			if err != nil {
				return err
			}
			last := strings.LastIndex(string(text), "failover peer \"luna\" state {")
			if last < 0 {
				return errors.New(s.name + " has no state yet")
			}
			state, _, _ := strings.Cut(string(text)[last:], "\n}")
			if !strings.Contains(state, "my state normal") || !strings.Contains(state, "partner state normal") {
				return fmt.Errorf("%s: %s", s.name, strings.Join(strings.Fields(state), " "))
			}
		}
		return nil
	})
}

// victim is each of the two in turn: both answer. Two deaths, one of each kind, are
// the primary's, the next two the secondary's.
func (p *pair) victim(_ context.Context, round int) (server, error) {
	return p.servers[round/2%2], nil
}

func (p *pair) revive(ctx context.Context, dead server) error {
	for i := range p.servers {
		if p.servers[i].name == dead.name {
			if err := p.start(&p.servers[i]); err != nil {
				return err
			}
		}
	}
	return p.settle(ctx)
}
