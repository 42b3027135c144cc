package inventory

import "net/netip"

// AddNetwork makes a network. NSIP defaults to its last assignable address.
type AddNetwork struct {
	Name       string       `json:"name"`
	Prefix     netip.Prefix `json:"prefix" doc:"any address of the network and the length of its prefix: 10.30.0.0/16"`
	NSHostname string       `json:"ns_hostname,omitempty" doc:"name of the network's name server"`
	NSIP       netip.Addr   `json:"ns_ip,omitzero" doc:"address of the name server; the last one of the network if empty"`
}

func (c AddNetwork) Validate() error {
	if err := CheckName("network", c.Name); err != nil {
		return err
	}
	if c.NSHostname != "" {
		if err := checkNameServer(c.Name, c.NSHostname); err != nil {
			return err
		}
	}
	return CheckPrefix(c.Name, c.Prefix)
}

// ChangeNetwork sets what is given. A new prefix moves every address with it.
type ChangeNetwork struct {
	Name       string        `json:"name,omitempty"`
	Prefix     *netip.Prefix `json:"prefix,omitempty" doc:"any address of the network and the length of its prefix: 10.30.0.0/16"`
	NSHostname *string       `json:"ns_hostname,omitempty" doc:"name of the network's name server"`
	NSIP       *netip.Addr   `json:"ns_ip,omitempty" doc:"address of the name server; the last one of the network if empty"`
	Reserve    []netip.Addr  `json:"reserve,omitempty" doc:"addresses to take out of the pool"`
	Release    []netip.Addr  `json:"release,omitempty" doc:"reserved addresses to put back"`
	Force      bool          `json:"force,omitempty" doc:"release an address from the node that has it, which gets the next free one"`
	Include    *string       `json:"include,omitempty" doc:"further lines of the forward zone; empty unsets"`
	RevInclude *string       `json:"rev_include,omitempty" doc:"further lines of the reverse zone; empty unsets"`
	Comment    *string       `json:"comment,omitempty" doc:"empty unsets"`
}

func (c ChangeNetwork) Validate() error {
	if c.NSHostname != nil && *c.NSHostname != "" {
		if err := checkNameServer(c.Name, *c.NSHostname); err != nil {
			return err
		}
	}
	if c.Prefix != nil {
		if err := CheckPrefix(c.Name, *c.Prefix); err != nil {
			return err
		}
	}
	return checkTexts("network", c.Name, c.Include, c.RevInclude, c.Comment)
}

// DeleteNetwork removes a network that nothing uses.
type DeleteNetwork struct {
	Name string `json:"name"`
}

func (c DeleteNetwork) Validate() error { return nil }

// SetRange sets the pool of a network, from which unknown machines get their
// addresses; with it the network gets DHCP. A zero range ends both.
type SetRange struct {
	Network string    `json:"network"`
	Range   AddrRange `json:"range,omitzero"`
}

func (c SetRange) Validate() error {
	if c.Range.IsZero() && !c.Range.End.IsValid() {
		return nil
	}
	if !c.Range.Start.IsValid() || !c.Range.End.IsValid() {
		return invalid("network", c.Network, "Network range should be specified: a first and a last address")
	}
	if c.Range.End.Less(c.Range.Start) {
		return Errorf(KindRefused, "network", c.Network, "Wrong range definition: %s comes after %s", c.Range.Start, c.Range.End)
	}
	return nil
}
