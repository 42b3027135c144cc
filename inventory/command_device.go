package inventory

import (
	"net/netip"
	"regexp"
)

// What 1.2 gave a bmcsetup and a switch that were not told otherwise.
const (
	DefaultBMCUser     = "ladmin"
	DefaultBMCPassword = "ladmin" // 1.2's default, kept: `luna bmcsetup add` warns of it
	DefaultBMCUserID   = 3
	DefaultBMCChannel  = 1
	DefaultSwitchRead  = "public"
	DefaultSwitchRW    = "private"
	DefaultSwitchOID   = ".1.3.6.1.2.1.17.7.1.2.2.1.2" // dot1qTpFdbPort, Q-BRIDGE-MIB (RFC 4363)
)

// AddBMCSetup makes a bmcsetup. What is nil gets its default.
type AddBMCSetup struct {
	Name        string  `json:"name"`
	User        *string `json:"user,omitempty" doc:"at most 16 bytes"`
	Password    *string `json:"password,omitempty" doc:"at most 20 bytes"`
	UserID      *int    `json:"userid,omitempty" doc:"number of the user in the BMC, 1 to 63"`
	NetChannel  *int    `json:"netchannel,omitempty" doc:"the channel whose address is set, 1 to 15"`
	MgmtChannel *int    `json:"mgmtchannel,omitempty" doc:"the channel on which the user may log in, 1 to 15"`
}

func (c AddBMCSetup) Validate() error {
	if err := CheckName("bmcsetup", c.Name); err != nil {
		return err
	}
	return ChangeBMCSetup{Name: c.Name, User: c.User, Password: c.Password, UserID: c.UserID, NetChannel: c.NetChannel, MgmtChannel: c.MgmtChannel}.Validate()
}

// ChangeBMCSetup sets what is given.
type ChangeBMCSetup struct {
	Name        string  `json:"name,omitempty"`
	User        *string `json:"user,omitempty" doc:"at most 16 bytes"`
	Password    *string `json:"password,omitempty" doc:"at most 20 bytes"`
	UserID      *int    `json:"userid,omitempty" doc:"number of the user in the BMC, 1 to 63"`
	NetChannel  *int    `json:"netchannel,omitempty" doc:"the channel whose address is set, 1 to 15"`
	MgmtChannel *int    `json:"mgmtchannel,omitempty" doc:"the channel on which the user may log in, 1 to 15"`
	Comment     *string `json:"comment,omitempty" doc:"empty unsets"`
}

// The limits of IPMI 2.0: a user name of 16 bytes, a password of 20 (§22.29,
// §22.30), 63 users, 15 channels (§6.3).
func (c ChangeBMCSetup) Validate() error {
	if c.User != nil && len(*c.User) > 16 {
		return invalid("bmcsetup", c.Name, "the user name is %d bytes long: IPMI allows 16", len(*c.User))
	}
	if c.Password != nil && len(*c.Password) > 20 {
		return invalid("bmcsetup", c.Name, "the password is %d bytes long: IPMI 2.0 allows 20", len(*c.Password))
	}
	for _, n := range []struct {
		name  string
		value *int
		max   int
	}{{"userid", c.UserID, 63}, {"netchannel", c.NetChannel, 15}, {"mgmtchannel", c.MgmtChannel, 15}} {
		if n.value != nil && (*n.value < 1 || *n.value > n.max) {
			return invalid("bmcsetup", c.Name, "%s should be in the range [1..%d], not %d", n.name, n.max, *n.value)
		}
	}
	return checkTexts("bmcsetup", c.Name, c.Comment)
}

// DeleteBMCSetup removes a bmcsetup that no group uses.
type DeleteBMCSetup struct {
	Name string `json:"name"`
}

func (c DeleteBMCSetup) Validate() error { return nil }

// oidRE matches an object identifier as SNMP tools take it.
var oidRE = regexp.MustCompile(`^\.?[0-9]+(\.[0-9]+)+$`)

func checkSwitch(name string, read, rw, oid *string) error {
	if oid != nil && !oidRE.MatchString(*oid) {
		return invalid("switch", name, "'%s' is no OID: it is numbers and dots, as in %s", *oid, DefaultSwitchOID)
	}
	for _, s := range []*string{read, rw} {
		if s != nil && len(*s) > 255 {
			return invalid("switch", name, "the SNMP community is %d bytes long: at most 255", len(*s))
		}
	}
	return nil
}

// AddSwitches makes switches. What is nil gets its default. A zero Addr is the
// lowest free one.
type AddSwitches struct {
	Names     []string   `json:"names"`
	Network   string     `json:"network"`
	Addr      netip.Addr `json:"ip,omitzero"`
	Increment bool       `json:"increment,omitempty"` // the second gets the address after Addr, and so on
	Read      *string    `json:"read,omitempty"`
	RW        *string    `json:"rw,omitempty"`
	OID       *string    `json:"oid,omitempty"`
}

func (c AddSwitches) Validate() error {
	if err := checkNames("switch", c.Names); err != nil {
		return err
	}
	if err := checkIncrement("switch", c.Names, c.Addr, c.Increment); err != nil {
		return err
	}
	return checkSwitch(c.Names[0], c.Read, c.RW, c.OID)
}

func checkIncrement(object string, names []string, a netip.Addr, increment bool) error {
	if len(names) > 1 && a.IsValid() && !increment {
		return invalid(object, names[0], "one address cannot be that of %d objects: %s+ gives each the next one", len(names), a)
	}
	return nil
}

// ChangeSwitches sets on every named switch what is given. In another network
// a switch keeps its place, unless an address is given too.
type ChangeSwitches struct {
	Names     []string    `json:"names"`
	Network   *string     `json:"network,omitempty"`
	Addr      *netip.Addr `json:"ip,omitempty"`
	Increment bool        `json:"increment,omitempty"`
	Read      *string     `json:"read,omitempty"`
	RW        *string     `json:"rw,omitempty"`
	OID       *string     `json:"oid,omitempty"`
	Comment   *string     `json:"comment,omitempty" doc:"empty unsets"`
}

func (c ChangeSwitches) Validate() error {
	if len(c.Names) == 0 {
		return invalid("switch", "", "no switch is named")
	}
	if err := checkDoubles("switch", c.Names); err != nil {
		return err
	}
	if c.Addr != nil {
		if err := checkIncrement("switch", c.Names, *c.Addr, c.Increment); err != nil {
			return err
		}
	}
	if err := checkSwitch(c.Names[0], c.Read, c.RW, c.OID); err != nil {
		return err
	}
	return checkTexts("switch", c.Names[0], c.Comment)
}

// DeleteSwitches removes switches that no node is connected to.
type DeleteSwitches struct {
	Names []string `json:"names"`
}

func (c DeleteSwitches) Validate() error { return checkDoubles("switch", c.Names) }

// AddOtherDevs makes other devices with an address in a network.
type AddOtherDevs struct {
	Names     []string   `json:"names"`
	Network   string     `json:"network"`
	Addr      netip.Addr `json:"ip"`
	Increment bool       `json:"increment,omitempty"` // the second gets the address after Addr, and so on
}

func (c AddOtherDevs) Validate() error {
	if err := checkNames("otherdev", c.Names); err != nil {
		return err
	}
	if !c.Addr.IsValid() {
		return invalid("otherdev", c.Names[0], "IP needs to be specified")
	}
	return checkIncrement("otherdev", c.Names, c.Addr, c.Increment)
}

// ChangeOtherDevs gives every named device an address in the network, or takes
// the one that it has there.
type ChangeOtherDevs struct {
	Names     []string   `json:"names"`
	Network   string     `json:"network,omitempty"`
	Addr      netip.Addr `json:"ip,omitzero"`
	Increment bool       `json:"increment,omitempty"`
	Detach    bool       `json:"detach,omitempty"` // take the address in Network
	Comment   *string    `json:"comment,omitempty" doc:"empty unsets"`
}

func (c ChangeOtherDevs) Validate() error {
	if len(c.Names) == 0 {
		return invalid("otherdev", "", "no otherdev is named")
	}
	if err := checkDoubles("otherdev", c.Names); err != nil {
		return err
	}
	if (c.Addr.IsValid() || c.Detach) && c.Network == "" {
		return invalid("otherdev", c.Names[0], "Network should be specified: say in which network the address is")
	}
	if err := checkIncrement("otherdev", c.Names, c.Addr, c.Increment); err != nil {
		return err
	}
	return checkTexts("otherdev", c.Names[0], c.Comment)
}

// DeleteOtherDevs removes other devices and frees their addresses.
type DeleteOtherDevs struct {
	Names []string `json:"names"`
}

func (c DeleteOtherDevs) Validate() error { return checkDoubles("otherdev", c.Names) }
