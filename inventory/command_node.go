package inventory

import (
	"net/netip"
	"slices"
	"time"
)

// AddNodes makes nodes, each with the next free address on each interface of
// its group. Without names it makes one with the next automatic name. The
// result is the list of names.
type AddNodes struct {
	Group string   `json:"group"`
	Names []string `json:"names,omitempty"`
	MAC   MAC      `json:"mac,omitempty"` // only with one node
	Tags  []string `json:"tags,omitempty"`
}

func (c AddNodes) Validate() error {
	if c.MAC != "" && len(c.Names) > 1 {
		return invalid("node", c.Names[0], "one MAC address cannot be that of %d nodes", len(c.Names))
	}
	for _, t := range c.Tags {
		if err := CheckTag("", t); err != nil {
			return err
		}
	}
	if len(c.Names) == 0 {
		return nil
	}
	return checkNames("node", c.Names)
}

// ChangeNodes sets on every named node what is given. "" for MAC, Switch, Port
// and Comment unsets.
type ChangeNodes struct {
	Names     []string     `json:"names"`
	Group     *string      `json:"group,omitempty"`
	MAC       *MAC         `json:"mac,omitempty"`
	Addresses []SetAddress `json:"addresses,omitempty"`
	LocalBoot *bool        `json:"localboot,omitempty"`
	SetupBMC  *bool        `json:"setupbmc,omitempty"`
	Service   *bool        `json:"service,omitempty"`
	Switch    *string      `json:"switch,omitempty"`
	Port      *string      `json:"port,omitempty"`
	Tag       []string     `json:"tag,omitempty"`   // tags to have
	Untag     []string     `json:"untag,omitempty"` // tags not to have
	Comment   *string      `json:"comment,omitempty"`
}

func (c ChangeNodes) Validate() error {
	if len(c.Names) == 0 {
		return invalid("node", "", "no node is named")
	}
	if len(c.Names) > 1 && c.MAC != nil && *c.MAC != "" {
		return invalid("node", c.Names[0], "one MAC address cannot be that of %d nodes", len(c.Names))
	}
	if c.Group != nil && len(c.Addresses) > 0 {
		return invalid("node", c.Names[0], "change the group first, then the address")
	}
	if err := checkDoubles("node", c.Names); err != nil {
		return err
	}
	if err := c.checkAddresses(); err != nil {
		return err
	}
	for _, t := range append(slices.Clone(c.Tag), c.Untag...) {
		if err := CheckTag(c.Names[0], t); err != nil {
			return err
		}
	}
	if err := checkPort(c.Names[0], c.Port); err != nil {
		return err
	}
	return checkTexts("node", c.Names[0], c.Comment)
}

func (c ChangeNodes) checkAddresses() error {
	type place struct {
		iface string
		is6   bool
	}
	seen := map[place]bool{}
	for _, a := range c.Addresses {
		if !a.Addr.IsValid() {
			return invalid("node", c.Names[0], "interface '%s' needs an IP address", a.Interface)
		}
		if err := checkIncrement("node", c.Names, a.Addr, a.Increment); err != nil {
			return err
		}
		p := place{a.Interface, a.Addr.Is6()}
		if seen[p] {
			return invalid("node", c.Names[0], "interface '%s' can have one address of the family of %s", a.Interface, a.Addr)
		}
		seen[p] = true
	}
	return nil
}

// SetAddress gives an interface another address of the same family.
type SetAddress struct {
	Interface string     `json:"interface" doc:"name of an interface of the node's group"`
	Addr      netip.Addr `json:"addr" doc:"of the family of the address that it has"`
	// Increment gives the first named node Addr, the second the address after
	// it, and so on.
	Increment bool `json:"increment,omitempty" doc:"the second node gets the next address, and so on"`
}

// DeleteNodes removes nodes and frees what they had.
type DeleteNodes struct {
	Names []string `json:"names"`
}

func (c DeleteNodes) Validate() error {
	if len(c.Names) == 0 {
		return invalid("node", "", "no node is named")
	}
	return checkDoubles("node", c.Names)
}

// RecordStatus stores stages that nodes reported; unknown nodes are passed over.
type RecordStatus struct {
	Statuses []NodeStatus `json:"statuses"`
}

func (c RecordStatus) Validate() error { return nil }

// NodeStatus is a Status by the name of its node.
type NodeStatus struct {
	Name string `json:"name"`
	Status
}

// LeaseAddress gives an unknown machine a pool address on a network, or renews
// the one it has. The result is the Lease. An address that the machine declines,
// for it found another machine there, nobody gets for a while (RFC 2131 §4.3.3).
type LeaseAddress struct {
	Network string        `json:"network"`
	MAC     MAC           `json:"mac"`
	At      time.Time     `json:"at"`
	TTL     time.Duration `json:"ttl"` // ns
	// Declined is what the machine does not want; zero: nothing.
	Declined netip.Addr `json:"declined,omitzero"`
}

func (c LeaseAddress) Validate() error {
	if c.MAC == "" || c.TTL <= 0 {
		return invalid("lease", string(c.MAC), "a lease needs a MAC address and a time")
	}
	return nil
}
