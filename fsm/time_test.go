package fsm_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/inventory"
)

// passed moves the mesh's clock on.
func (s *site) passed(t *testing.T, d time.Duration) {
	t.Helper()
	for ; d > 0; d -= inventory.MaxAdvance {
		s.must(t, inventory.Advance{Elapsed: min(d, inventory.MaxAdvance)})
	}
}

// later makes d pass: by the clocks of the heads in format 1, which have no
// other, by the mesh's clock in format 2.
func (s *site) later(t *testing.T, d time.Duration) {
	t.Helper()
	if s.version == 1 {
		s.wall = epoch.Add(d)
		return
	}
	s.passed(t, d)
}

// inEachFormat runs a test in a mesh of the first format and in one of the newest.
func inEachFormat(t *testing.T, test func(t *testing.T, s *site)) {
	t.Helper()
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("format %d", version), func(t *testing.T) {
			s := usualAt(t, version)
			s.wall = epoch
			test(t, s)
			s.sound(t)
		})
	}
}

func TestTokens(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	inEachFormat(t, func(t *testing.T, s *site) {
		admit := func(name, key string, last byte) error {
			head := inventory.Head{Name: name, Key: key, Address: netip.AddrFrom4([4]byte{10, 30, 255, last})}
			return s.do(inventory.AdmitHead{Invite: "i", Secret: hash, At: s.clock(), Head: head}).Into(nil)
		}
		invite := func() {
			t.Helper()
			s.must(t, inventory.CreateInvite{Invite: inventory.Invite{ID: "i", Hash: hash, Created: s.clock(), Expires: s.clock().Add(time.Hour)}})
		}
		invite()
		s.later(t, 2*time.Hour)
		if err := admit("h2", "k2", 253); !errors.Is(err, inventory.ErrDenied) || !strings.Contains(err.Error(), "expired, it was good for 1h0m0s") {
			t.Errorf("expired: %v", err)
		}
		invite()
		if err := admit("h1", "k2", 253); !errors.Is(err, inventory.ErrExists) {
			t.Errorf("name taken: %v", err)
		}
		if err := admit("h2", "k2", 253); err != nil {
			t.Errorf("first use: %v", err)
		}
		s.later(t, time.Minute)
		if err := admit("h2", "k2", 253); err != nil {
			t.Errorf("the same head again: %v", err)
		}
		if err := admit("h3", "k3", 252); !errors.Is(err, inventory.ErrDenied) || !strings.Contains(err.Error(), "used already, by head 'h2'") {
			t.Errorf("used: %v", err)
		}
	})
}

func (s *site) lease(mac inventory.MAC, ttl time.Duration) (l inventory.Lease, err error) {
	err = s.do(inventory.LeaseAddress{Network: "cluster", MAC: mac, At: s.clock(), TTL: ttl}).Into(&l)
	return l, err
}

func TestLeases(t *testing.T) {
	inEachFormat(t, func(t *testing.T, s *site) {
		s.must(t, inventory.SetRange{Network: "cluster", Range: addrRange("10.30.1.1", "10.30.1.2")})
		one, err := s.lease("52:54:00:00:00:01", 2*time.Minute)
		if err != nil || one.Addr != addr("10.30.1.1") {
			t.Fatalf("first: %v %v", one, err)
		}
		if two, _ := s.lease("52:54:00:00:00:02", time.Minute); two.Addr != addr("10.30.1.2") {
			t.Errorf("second: %v", two)
		}
		if again, _ := s.lease("52:54:00:00:00:01", time.Minute); again != one {
			t.Errorf("the same machine gets %v, then %v", one, again)
		}
		s.later(t, 30*time.Second)
		if _, err := s.lease("52:54:00:00:00:03", time.Minute); err == nil || !strings.Contains(err.Error(), "used up") {
			t.Errorf("full pool: %v", err)
		}
		s.later(t, time.Hour)
		if three, err := s.lease("52:54:00:00:00:03", time.Minute); err != nil || three.Addr != addr("10.30.1.2") {
			t.Errorf("the lease that ended first is not taken: %v %v", three, err)
		}
	})
}

// TestDecline: a machine that found another one at its address gets the next, and nobody
// gets that one for an hour.
func TestDecline(t *testing.T) {
	s := usual(t)
	s.must(t, inventory.SetRange{Network: "cluster", Range: addrRange("10.30.1.1", "10.30.1.3")})
	decline := func(mac inventory.MAC, a string) string {
		var l inventory.Lease
		if err := s.do(inventory.LeaseAddress{Network: "cluster", MAC: mac, At: s.clock(), TTL: time.Minute, Declined: addr(a)}).Into(&l); err != nil {
			return err.Error()
		}
		return l.Addr.String()
	}
	const one, two, three = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"
	if _, err := s.lease(one, time.Minute); err != nil {
		t.Fatal(err)
	}
	if got := decline(two, "10.30.1.1"); got != "10.30.1.2" {
		t.Errorf("declining what is another's gives %s", got)
	}
	if got := decline(one, "10.30.1.1"); got != "10.30.1.3" {
		t.Errorf("declining gives %s, want the next address", got)
	}
	s.later(t, 30*time.Minute)
	if l, err := s.lease(three, time.Minute); err != nil || l.Addr == addr("10.30.1.1") {
		t.Errorf("half an hour later another machine gets %s (%v)", l.Addr, err)
	}
	s.later(t, 40*time.Minute)
	for i, mac := range []inventory.MAC{one, two, three} {
		if got := decline(mac, fmt.Sprintf("10.30.1.%d", i+1)); !strings.HasPrefix(got, "10.30.1.") {
			t.Errorf("whatever is declined, somebody gets an address, not %q", got)
		}
	}
	for _, mac := range []inventory.MAC{one, two, three} {
		if _, err := s.lease(mac, time.Minute); err != nil {
			t.Errorf("the declined address is not anybody's after an hour: %v", err)
		}
	}
	s.sound(t)
}

// TestALeaseLastsItsTimeOnTop holds what the mesh's clock must be given: it may
// jump right after a lease by what the leader had counted before it.
func TestALeaseLastsItsTimeOnTop(t *testing.T) {
	s := usual(t)
	s.must(t, inventory.SetRange{Network: "cluster", Range: addrRange("10.30.1.1", "10.30.1.1")})
	if _, err := s.lease("52:54:00:00:00:01", 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	s.passed(t, 10*time.Minute+inventory.MaxAdvance)
	if l, err := s.lease("52:54:00:00:00:02", 10*time.Minute); err == nil {
		t.Errorf("%v: the first had it for 10 min, of which a minute may have been before", l)
	}
	s.passed(t, time.Second)
	if _, err := s.lease("52:54:00:00:00:02", 10*time.Minute); err != nil {
		t.Error(err)
	}
}

// TestClocksOfHeadsMayJump does the same with heads whose clocks are right, and
// with ones whose clocks jump by hours and years: in format 2 nothing differs but
// what the log says of when it was asked.
func TestClocksOfHeadsMayJump(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	story := func(clock func(step int) time.Time) (told []string) {
		s := usual(t)
		step := 0
		do := func(c inventory.Command) {
			r := s.do(c)
			told = append(told, fmt.Sprintf("%s: %v", inventory.Verb(c), r.Error))
			step++
			s.wall = clock(step)
		}
		lease := func(mac inventory.MAC) {
			l, err := s.lease(mac, 10*time.Minute)
			told = append(told, fmt.Sprintf("lease: %v %v, ends in %s", l.Addr, err, l.Expires.Sub(s.View().Clock())))
			step++
			s.wall = clock(step)
		}
		minutes := func(n int) {
			for range n {
				do(inventory.Advance{Elapsed: time.Minute, Applied: s.index - 1})
			}
		}
		invite := func() {
			do(inventory.CreateInvite{Invite: inventory.Invite{ID: "i", Hash: hash, Created: s.clock(), Expires: s.clock().Add(time.Hour)}})
		}
		admit := func(name string, last byte) {
			do(inventory.AdmitHead{Invite: "i", Secret: hash, At: s.clock(), Head: inventory.Head{Name: name, Key: name, Address: netip.AddrFrom4([4]byte{10, 30, 255, last})}})
		}
		do(inventory.SetRange{Network: "cluster", Range: addrRange("10.30.1.1", "10.30.1.2")})
		lease("52:54:00:00:00:01")
		invite()
		minutes(5)
		lease("52:54:00:00:00:02")
		lease("52:54:00:00:00:01")
		minutes(9)
		lease("52:54:00:00:00:03") // none is free
		admit("h2", 253)
		minutes(3)
		lease("52:54:00:00:00:03") // the second has ended
		do(inventory.SetRange{Network: "cluster"})
		do(inventory.SetRange{Network: "cluster", Range: addrRange("10.30.1.1", "10.30.1.2")})
		lease("52:54:00:00:00:04") // both may still be used
		minutes(12)
		lease("52:54:00:00:00:04")
		invite()
		minutes(60)
		admit("h3", 252) // just in time
		minutes(2)
		invite()
		minutes(62)
		admit("h4", 251) // too late
		s.sound(t)
		return told
	}
	right := story(func(int) time.Time { return epoch })
	for name, clock := range map[string]func(int) time.Time{
		"goes on":          func(step int) time.Time { return epoch.Add(time.Duration(step) * time.Second) },
		"jumps ahead":      func(step int) time.Time { return epoch.Add(time.Duration(step) * 5 * time.Hour) },
		"jumps back":       func(step int) time.Time { return epoch.Add(-time.Duration(step) * 5 * time.Hour) },
		"to and fro":       func(step int) time.Time { return epoch.Add(time.Duration(step%7-3) * 1000 * time.Hour) },
		"has no battery":   func(int) time.Time { return time.Unix(0, 0).UTC() },
		"of another zone":  func(int) time.Time { return epoch.In(time.FixedZone("", 3600)) },
		"is a century off": func(step int) time.Time { return epoch.AddDate(100*(step%2), 0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			for i, got := range story(clock) {
				if got != right[i] {
					t.Errorf("step %d: %s\nwith a right clock: %s", i, got, right[i])
				}
			}
		})
	}
}
