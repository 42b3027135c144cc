package lab_test

import (
	"net/netip"
	"testing"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
)

// Two networks with a trunk are one, until it is cut, and again when it is healed.
func TestTrunk(t *testing.T) {
	l := labtest.New(t, "trunk")
	ctx := t.Context()
	var hosts []*lab.Host
	for i, name := range []string{"one", "other"} {
		h, err := l.HostWith(ctx, name, lab.NIC{Network: name, Addresses: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 1)}), 24)}})
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	trunk, err := l.Trunk(ctx, "one", "other")
	if err != nil {
		t.Fatal(err)
	}
	reaches := func(want bool) {
		t.Helper()
		err := hosts[0].Command(ctx, "busybox", "ping", "-c", "3", "-i", "0.2", "-W", "1", "10.1.0.2").Run()
		if got := err == nil; got != want {
			t.Errorf("one reaches the other: %t (%v), want %t", got, err, want)
		}
	}
	reaches(true)
	if err := trunk.Cut(ctx); err != nil {
		t.Fatal(err)
	}
	reaches(false)
	if err := trunk.Heal(ctx); err != nil {
		t.Fatal(err)
	}
	reaches(true)
}
