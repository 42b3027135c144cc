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
// the time of the admitting head, by which tokens end in a mesh of format 1;
// later ones go by the mesh's clock.
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

// AssignDuties makes heads holders of DHCP, by network, and of the polling of
// switches; "" takes it from all.
type AssignDuties struct {
	DHCP  map[string]string `json:"dhcp"`            // network name to head name
	Polls map[string]string `json:"polls,omitempty"` // switch name to head name; from format 2 on
}

func (c AssignDuties) Validate() error { return nil }

// ChangeHead is what an administrator tells a head to be.
type ChangeHead struct {
	Name    string `json:"name"`
	Drained *bool  `json:"drained,omitempty"`
	Weight  *int   `json:"weight,omitempty"` // 1 to 100
}

func (c ChangeHead) Validate() error {
	if c.Weight != nil && (*c.Weight < 1 || *c.Weight > 100) {
		return invalid("head", c.Name, "the weight of a head is 1 to 100, not %d", *c.Weight)
	}
	return nil
}

// MaxAdvance is how far one Advance moves the mesh's clock at most. What must last
// for some time by that clock gets as much on top: it may have begun just before
// the end of what the leader counted.
const MaxAdvance = time.Minute

// Advance is what the leader says of the mesh from time to time, where something
// waits for it.
type Advance struct {
	Elapsed time.Duration `json:"elapsed"` // ns that the leader counted since the last one
	Applied uint64        `json:"applied"` // the index that every head has applied
	Held    bool          `json:"held"`    // see Inventory.Held
}

func (c Advance) Validate() error {
	if c.Elapsed < 0 || c.Elapsed > MaxAdvance {
		return invalid("cluster", "general", "time passes by up to %s at a time, not %s", MaxAdvance, c.Elapsed)
	}
	return nil
}

// AdoptCluster makes this head the only one of the cluster, after the others were
// lost for good or when a backup is restored.
type AdoptCluster struct {
	Head Head `json:"head"`
	// Forget tells that the head begins with none of the images.
	Forget bool `json:"forget,omitempty"`
}

func (c AdoptCluster) Validate() error {
	if !c.Head.Address.IsValid() {
		return invalid("head", c.Head.Name, "the head's address is missing")
	}
	return CheckName("head", c.Head.Name)
}
