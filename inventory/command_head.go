package inventory

import (
	"net/netip"
	"time"
)

// CreateInvite stores a join token's hash.
type CreateInvite struct {
	Invite Invite `json:"invite"`
}

func (c CreateInvite) Validate() error {
	if c.Invite.ID == "" || len(c.Invite.Hash) != 64 || !c.Invite.Created.Before(c.Invite.Expires) {
		return invalid("head", "", "the invite is malformed")
	}
	return nil
}

// AdmitHead uses up an invite and makes the head a member, in one step. At is
// the time of the admitting head: a token's hour is counted by one clock as
// long as the heads' clocks agree, which the admission checks.
type AdmitHead struct {
	Invite string    `json:"invite"`
	Secret string    `json:"secret"` // its SHA-256, hex
	At     time.Time `json:"at"`
	Head   Head      `json:"head"`
}

func (c AdmitHead) Validate() error {
	if !c.Head.Address.IsValid() || c.Head.Key == "" {
		return invalid("head", c.Head.Name, "the head's address or key is missing")
	}
	return CheckName("head", c.Head.Name)
}

// UpdateHead records what a running agent says of its own head.
type UpdateHead struct {
	Name       string         `json:"name"`
	Address    netip.Addr     `json:"address"`
	Addresses  []netip.Prefix `json:"addresses"`
	APIPort    int            `json:"api_port"`
	RaftPort   int            `json:"raft_port"`
	GossipPort int            `json:"gossip_port"`
	HTTPPort   int            `json:"http_port"`
	Version    string         `json:"version"`
}

func (c UpdateHead) Validate() error {
	if !c.Address.IsValid() {
		return invalid("head", c.Name, "the head's address is missing")
	}
	return nil
}

// RemoveHead forgets a head for good.
type RemoveHead struct {
	Name string `json:"name"`
}

func (c RemoveHead) Validate() error { return nil }

// AssignDuties makes heads holders of DHCP, by network; "" takes it from all.
type AssignDuties struct {
	DHCP map[string]string `json:"dhcp"` // network name to head name
}

func (c AssignDuties) Validate() error { return nil }
