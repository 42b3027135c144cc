package ansible

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/bmcsim"
	"github.com/clustervision/luna/test/site"
)

// onHead is ON of the scenario: by ssh, as an administrator comes to the heads.
const onHead = `#!/bin/sh
case $1 in
%sesac
exec ssh -i %s -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
	"root@$address" -- "$2"
`

// scenario: the heads go through what `make vagrant-test` has virtual machines go through, by the same
// script. Of its two nodes, which their BMCs switch on, the first is an emulated machine, and boots a Debian.
func (s *servers) scenario(tree string, heads []*server) {
	ctx, cancel := context.WithTimeout(s.Context(), 15*time.Minute)
	defer cancel()
	bmcs, err := s.lab.Host(ctx, "bmcs", netip.MustParsePrefix("10.31.0.1/16"), netip.MustParsePrefix("10.31.0.2/16"))
	must(s, err)
	bin, err := site.Bin()
	must(s, err)
	all, ctx := errgroup.WithContext(ctx)
	machine, simulated := s.bmc(bmcs, 1), s.bmc(bmcs, 2)
	all.Go(func() error {
		if err := switchedOn(ctx, machine); err != nil {
			return err
		}
		m, err := s.lab.Machine(ctx, lab.MachineConfig{Name: "vm1", MAC: nodeMAC(1)})
		if err != nil {
			return err
		}
		defer m.Kill()
		_, err = m.WaitFor(ctx, regexp.MustCompile("OS-READY.*hostname="+nodeName(1)))
		return err
	})
	all.Go(func() error {
		if err := switchedOn(ctx, simulated); err != nil {
			return err
		}
		n, err := s.lab.Node(ctx, lab.NodeConfig{Name: "vm2", MAC: nodeMAC(2), RateMbit: loopRate})
		if err != nil {
			return err
		}
		return site.BootOnce(ctx, s.lab, bin, n)
	})

	var names []string
	addresses := ""
	for i, h := range heads {
		// The BMCs' network, as the Vagrant site's playbook gives it to its heads.
		_, err := h.Run(ctx, "ip", "address", "replace", fmt.Sprintf("10.31.255.%d/16", 254-i), "dev", "eth0")
		must(s, err)
		names = append(names, h.name)
		addresses += fmt.Sprintf("%s) address=%s ;;\n", h.name, h.addr)
	}
	on, power := filepath.Join(s.dir, "on"), filepath.Join(s.dir, "power")
	must(s, os.WriteFile(on, fmt.Appendf(nil, onHead, addresses, heads[0].SSHKey()), 0o755))
	must(s, os.WriteFile(power, fmt.Appendf(nil, "#!/bin/sh\nexec %s %s \"lpower $1 on\"\n", on, names[0]), 0o755))
	cmd := s.desk.Command(ctx, "../vagrant/scenario.sh")
	cmd.Env = append(os.Environ(), "HEADS="+strings.Join(names, " "), "NODES="+nodeMAC(1).String()+" "+nodeMAC(2).String(),
		"TREE="+tree, "ON="+on, "POWER="+power)
	out, err := cmd.CombinedOutput()
	s.Logf("%s", out)
	if err != nil {
		s.Error(err)
		cancel()
	}
	must(s, all.Wait())
}

// bmc gives a node its BMC, at the address that Luna computes for it.
func (s *servers) bmc(bmcs *lab.Host, node byte) *bmcsim.Sim {
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 31, 0, node}), 623)
	return bmcsim.StartOn(s, bmcs, address, "admin", "luna") // as site.yaml has it
}

// switchedOn waits until a machine is switched on.
func switchedOn(ctx context.Context, b *bmcsim.Sim) error {
	return site.Until(ctx, 10*time.Minute, "a node is switched on", func() error {
		if !b.Power() {
			return fmt.Errorf("its BMC was told: %v", b.Calls())
		}
		return nil
	})
}
