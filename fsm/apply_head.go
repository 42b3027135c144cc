package fsm

import (
	"crypto/subtle"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/clustervision/luna/inventory"
)

// inviteKept is how long a used or ended invite is remembered, so that whoever
// tries it learns which of the two it is.
const inviteKept = 7 * 24 * time.Hour

func createInvite(tx *inventory.Tx, c inventory.CreateInvite, now moment) error {
	for _, old := range slices.Collect(tx.Invites()) {
		if old.Expires.Add(inviteKept).Before(now.at) {
			tx.Delete(old)
		}
	}
	i := c.Invite
	if now.mesh { // else the head's own clock, which the invite has already
		i.Created, i.Expires = now.at, now.at.Add(c.Invite.Life())
	}
	i.UsedBy, i.UsedKey, i.UsedAt = "", "", time.Time{}
	tx.Put(&i)
	return nil
}

// admitHead makes a head a member. The same head may ask again with the same
// token and key: its first answer may have been lost on the way.
func admitHead(tx *inventory.Tx, c inventory.AdmitHead, now moment) (any, error) {
	name := c.Head.Name
	deny := func(format string, args ...any) (any, error) {
		return nil, inventory.Errorf(inventory.KindDenied, "head", name, format, args...)
	}
	i, ok := tx.Invite(c.Invite)
	if !ok {
		return deny("the token is unknown to this cluster: make one with `luna head invite`")
	}
	if subtle.ConstantTimeCompare([]byte(i.Hash), []byte(c.Secret)) != 1 {
		return deny("the token is damaged: copy it whole, or make one with `luna head invite`")
	}
	old, known := tx.Head(name)
	again := i.UsedBy == name && i.UsedKey == c.Head.Key
	if i.UsedBy != "" && !again {
		return deny("the token was used already, by head '%s' at %s: make another with `luna head invite`", i.UsedBy, i.UsedAt.UTC().Format(time.RFC3339))
	}
	if now.at.After(i.Expires) {
		return deny("the token has expired, it was good for %s: make another with `luna head invite`", i.Life())
	}
	if known && !again {
		return nil, inventory.Errorf(inventory.KindExists, "head", name, "the name '%s' is taken by the head at %s: give this one another with --name, or remove the old one with `luna head remove %s`", name, old.Address, name)
	}
	if err := addressFree(tx, c.Head); err != nil {
		return nil, err
	}
	h := c.Head
	h.Joined = c.At
	if known {
		h.ID, h.Joined = old.ID, old.Joined
	} else {
		h.ID = tx.NewID()
	}
	tx.Put(&h)
	used := *i
	used.UsedBy, used.UsedKey, used.UsedAt = name, h.Key, c.At
	tx.Put(&used)
	keepNameServers(tx)
	return h, nil
}

// addressFree refuses a head at an address that is somebody else's.
func addressFree(tx *inventory.Tx, h inventory.Head) error {
	refuse := func(a netip.Addr, by string) error {
		return inventory.Errorf(inventory.KindRefused, "head", h.Name, "%s, an address of this head, belongs to %s: change one of them first", a, by)
	}
	for other := range tx.Heads() {
		if other.Name != h.Name && other.Address == h.Address && other.RaftPort == h.RaftPort {
			return refuse(h.Address, "head '"+other.Name+"'")
		}
	}
	for _, p := range append([]netip.Prefix{netip.PrefixFrom(h.Address, 0)}, h.Addresses...) {
		a := p.Addr()
		if o, ok := tx.Owner(a); ok && o.Type == inventory.OwnerNode {
			return refuse(a, ownerName(&tx.Inventory, o))
		}
		for n := range tx.Networks() {
			if n.Range.Contains(a) {
				return refuse(a, "the DHCP range of network '"+n.Name+"'")
			}
		}
	}
	return nil
}

func updateHead(tx *inventory.Tx, c inventory.UpdateHead) error {
	old, ok := tx.Head(c.Name)
	if !ok {
		return inventory.NotFound("head", c.Name)
	}
	h := *old // what administrators told it to be stays
	h.Address, h.Addresses, h.Version = c.Address, c.Addresses, c.Version
	h.APIPort, h.RaftPort, h.GossipPort, h.HTTPPort = c.APIPort, c.RaftPort, c.GossipPort, c.HTTPPort
	tx.Put(&h)
	keepNameServers(tx)
	return nil
}

// keepNameServers follows the heads in the table of addresses: what was a head's
// own and is no more stays with the name server that has it, and nobody else
// may get it; what a head has by now is the head's.
func keepNameServers(tx *inventory.Tx) {
	for _, n := range slices.Collect(tx.Networks()) {
		o, owned := tx.Owner(n.NSIP)
		switch has := headHas(&tx.Inventory, n.NSIP); {
		case !owned && !has:
			tx.Put(&inventory.Owner{Addr: n.NSIP, Network: n.ID, Type: inventory.OwnerNetwork, ID: n.ID})
		case owned && has && o.Type == inventory.OwnerNetwork:
			tx.Delete(o)
		}
	}
}

func changeHead(tx *inventory.Tx, c inventory.ChangeHead) error {
	old, ok := tx.Head(c.Name)
	if !ok {
		return inventory.NotFound("head", c.Name)
	}
	h := *old
	set(&h.Drained, c.Drained)
	set(&h.Weight, c.Weight)
	tx.Put(&h)
	return nil
}

// adoptCluster leaves one head in the cluster. What the others alone had of the
// images is gone with them.
func adoptCluster(tx *inventory.Tx, c inventory.AdoptCluster) (any, error) {
	h := c.Head
	old, known := tx.Head(h.Name)
	switch {
	case known && !c.Forget:
		h.ID, h.Joined, h.Weight = old.ID, old.Joined, old.Weight
	default:
		h.ID = tx.NewID()
	}
	for _, o := range slices.Collect(tx.Heads()) {
		tx.Delete(o)
	}
	tx.Put(&h)
	for _, i := range slices.Collect(tx.Invites()) {
		tx.Delete(i) // who was invited was invited by the mesh that was
	}
	tx.Release(math.MaxUint64) // nobody is left who has not heard
	for _, v := range slices.Collect(tx.Versions()) {
		n := *v
		n.Holders = slices.DeleteFunc(slices.Clone(v.Holders), func(id inventory.ID) bool { return id != h.ID })
		n.Ready = v.Ready && len(n.Holders) > 0
		tx.Put(&n)
	}
	countHolders(tx)
	for _, n := range slices.Collect(tx.Networks()) {
		m := *n
		m.Duty = inventory.Duty{Epoch: n.Duty.Epoch + 1}
		tx.Put(&m)
	}
	for _, s := range slices.Collect(tx.Switches()) {
		m := *s
		m.Duty = inventory.Duty{Epoch: s.Duty.Epoch + 1}
		tx.Put(&m)
	}
	cluster, _ := tx.Cluster()
	next := *cluster
	next.Generation++
	tx.Put(&next)
	keepNameServers(tx)
	return h, nil
}

func removeHead(tx *inventory.Tx, c inventory.RemoveHead) error {
	h, ok := tx.Head(c.Name)
	if !ok {
		return inventory.NotFound("head", c.Name)
	}
	count := 0
	for range tx.Heads() {
		count++
	}
	if count == 1 {
		return inventory.Errorf(inventory.KindRefused, "head", c.Name, "'%s' is the only head: without it there is no cluster", c.Name)
	}
	for _, v := range slices.Collect(tx.Versions()) {
		if !slices.Contains(v.Holders, h.ID) {
			continue
		}
		n := *v
		n.Holders = slices.DeleteFunc(slices.Clone(v.Holders), func(id inventory.ID) bool { return id == h.ID })
		tx.Put(&n)
	}
	for _, n := range slices.Collect(tx.Networks()) {
		if n.Duty.Holder == h.ID {
			m := *n
			m.Duty = inventory.Duty{Epoch: n.Duty.Epoch + 1}
			tx.Put(&m)
		}
	}
	for _, s := range slices.Collect(tx.Switches()) {
		if s.Duty.Holder == h.ID {
			m := *s
			m.Duty = inventory.Duty{Epoch: s.Duty.Epoch + 1}
			tx.Put(&m)
		}
	}
	tx.Delete(h)
	countHolders(tx)
	keepNameServers(tx)
	return nil
}
