package inventory

import (
	"net/netip"
	"strings"
	"testing"
)

// TestCommandsAreRefused are requests that are malformed whatever the state is.
func TestCommandsAreRefused(t *testing.T) {
	twice := []string{"a", "b", "a"}
	addr := netip.MustParseAddr
	long := strings.Repeat("x", MaxScript+1)
	number := func(n int) *int { return &n }
	for _, tc := range []struct {
		command Command
		want    string
	}{
		{ChangeNodes{Names: twice}, "node 'a' is named twice"},
		{DeleteNodes{Names: twice}, "node 'a' is named twice"},
		{ChangeSwitches{Names: twice}, "switch 'a' is named twice"},
		{DeleteSwitches{Names: twice}, "switch 'a' is named twice"},
		{ChangeOtherDevs{Names: twice}, "otherdev 'a' is named twice"},
		{DeleteOtherDevs{Names: twice}, "otherdev 'a' is named twice"},
		{AddNodes{Group: "g", Names: twice}, "'a' is already created"},
		{AddNodes{Group: "g", Names: []string{"a", "b"}, MAC: "52:54:00:00:00:01"}, "cannot be that of 2 nodes"},
		{AddNodes{Group: "g", Tags: []string{"a,b"}}, "cannot be a tag"},
		{ChangeNodes{}, "no node is named"},
		{ChangeNodes{Names: []string{"a"}, Addresses: []SetAddress{{Interface: "i"}}}, "needs an IP address"},
		{ChangeNodes{Names: []string{"a", "b"}, Addresses: []SetAddress{{Interface: "i", Addr: addr("10.0.0.1")}}}, "10.0.0.1+ gives each the next one"},
		{ChangeNodes{Names: []string{"a"}, Addresses: []SetAddress{{"i", addr("10.0.0.1"), false}, {"i", addr("10.0.0.2"), false}}}, "can have one address of the family"},
		{ChangeNodes{Names: []string{"a"}, Comment: &long}, "at most"},
		{AddOtherDevs{Names: []string{"a"}, Network: "n"}, "IP needs to be specified"},
		{ChangeOtherDevs{Names: []string{"a"}, Addr: addr("10.0.0.1")}, "Network should be specified"},
		{AddSwitches{Names: []string{"a"}, Network: "n", OID: new(string)}, "is no OID"},
		{ChangeBMCSetup{Name: "b", UserID: number(0)}, "[1..63]"},
		{ChangeBMCSetup{Name: "b", NetChannel: number(16)}, "[1..15]"},
		{ChangeOSImage{Name: "o", KernModules: &long}, "at most"},
		{Rename{Object: "node", Name: "a", NewName: "b c"}, "cannot name a node"},
		{CloneGroup{Name: "a", To: "-b"}, "cannot name a group"},
	} {
		if err := tc.command.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s %+v: got %v, want %s", Verb(tc.command), tc.command, err, tc.want)
		}
	}
	both := ChangeNodes{Names: []string{"a"}, Addresses: []SetAddress{{"i", addr("10.0.0.1"), false}, {"i", addr("fd00::1"), false}}}
	if err := both.Validate(); err != nil {
		t.Errorf("an address of each family: %v", err)
	}
}
