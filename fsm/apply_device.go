package fsm

import (
	"net/netip"

	"github.com/clustervision/luna/inventory"
)

func addBMCSetup(tx *inventory.Tx, c inventory.AddBMCSetup) error {
	if _, ok := tx.BMCSetup(c.Name); ok {
		return inventory.Exists("bmcsetup", c.Name)
	}
	b := &inventory.BMCSetup{
		ID: tx.NewID(), Name: c.Name, User: inventory.DefaultBMCUser, Password: inventory.DefaultBMCPassword,
		UserID: inventory.DefaultBMCUserID, NetChannel: inventory.DefaultBMCChannel, MgmtChannel: inventory.DefaultBMCChannel,
	}
	set(&b.User, c.User)
	set(&b.Password, c.Password)
	set(&b.UserID, c.UserID)
	set(&b.NetChannel, c.NetChannel)
	set(&b.MgmtChannel, c.MgmtChannel)
	tx.Put(b)
	return nil
}

func changeBMCSetup(tx *inventory.Tx, c inventory.ChangeBMCSetup) error {
	old, ok := tx.BMCSetup(c.Name)
	if !ok {
		return inventory.NotFound("bmcsetup", c.Name)
	}
	b := *old
	set(&b.User, c.User)
	set(&b.Password, c.Password)
	set(&b.UserID, c.UserID)
	set(&b.NetChannel, c.NetChannel)
	set(&b.MgmtChannel, c.MgmtChannel)
	setText(&b.Comment, c.Comment)
	tx.Put(&b)
	return nil
}

func deleteBMCSetup(tx *inventory.Tx, c inventory.DeleteBMCSetup) error {
	b, ok := tx.BMCSetup(c.Name)
	if !ok {
		return inventory.NotFound("bmcsetup", c.Name)
	}
	var users []string
	for g := range tx.Groups() {
		if g.BMCSetup == b.ID {
			users = append(users, "[group/"+g.Name+"]")
		}
	}
	if len(users) > 0 {
		return inUse("bmcsetup", c.Name, users)
	}
	tx.Delete(b)
	return nil
}

func addSwitches(tx *inventory.Tx, c inventory.AddSwitches) error {
	n, ok := tx.Network(c.Network)
	if !ok {
		return inventory.NotFound("network", c.Network)
	}
	alloc := newAllocator(tx)
	for k, name := range c.Names {
		if _, ok := tx.Switch(name); ok {
			return inventory.Exists("switch", name)
		}
		s := &inventory.Switch{
			ID: tx.NewID(), Name: name, Network: n.ID, Addr: c.Addr,
			Read: inventory.DefaultSwitchRead, RW: inventory.DefaultSwitchRW, OID: inventory.DefaultSwitchOID,
		}
		set(&s.Read, c.Read)
		set(&s.RW, c.RW)
		set(&s.OID, c.OID)
		own := inventory.Owner{Type: inventory.OwnerSwitch, ID: s.ID}
		if c.Addr.IsValid() {
			s.Addr = after(c.Addr, k)
			own.Addr = s.Addr
			if err := claimNew(tx, n, own); err != nil {
				return err
			}
		} else if s.Addr, ok = alloc.take(n, own); !ok {
			return inventory.Errorf(inventory.KindInvalid, "switch", name, "network '%s' (%s) has no free address left for switch '%s'", n.Name, n.Prefix, name)
		}
		tx.Put(s)
	}
	return nil
}

// claimNew is claim for an object that is being made: a bad address is a bad
// value then, which in 1.2 had an exit code of its own.
func claimNew(tx *inventory.Tx, n *inventory.Network, o inventory.Owner) error {
	err := claim(tx, n, o)
	if err != nil {
		e := *inventory.AsError(err)
		e.Kind = inventory.KindInvalid
		return &e
	}
	return nil
}

func changeSwitches(tx *inventory.Tx, c inventory.ChangeSwitches) error {
	var moved []*inventory.Switch
	for k, name := range c.Names {
		old, ok := tx.Switch(name)
		if !ok {
			return inventory.NotFound("switch", name)
		}
		s := *old
		set(&s.Read, c.Read)
		set(&s.RW, c.RW)
		set(&s.OID, c.OID)
		setText(&s.Comment, c.Comment)
		if c.Network != nil {
			if err := changeSwitchNetwork(tx, &s, *c.Network, c.Addr != nil); err != nil {
				return err
			}
		}
		if c.Addr != nil {
			s.Addr = *c.Addr
			if c.Increment {
				s.Addr = after(s.Addr, k)
			}
		}
		if s.Addr == old.Addr && s.Network == old.Network {
			tx.Put(&s)
			continue
		}
		release(tx, old.Addr)
		moved = append(moved, &s)
	}
	for _, s := range moved {
		n, _ := tx.NetworkByID(s.Network)
		if err := claim(tx, n, inventory.Owner{Addr: s.Addr, Type: inventory.OwnerSwitch, ID: s.ID}); err != nil {
			return err
		}
		tx.Put(s)
	}
	return nil
}

// changeSwitchNetwork moves a switch to the same place in another network.
func changeSwitchNetwork(tx *inventory.Tx, s *inventory.Switch, name string, moved bool) error {
	to, ok := tx.Network(name)
	if !ok {
		return inventory.NotFound("network", name)
	}
	if to.ID == s.Network {
		if moved {
			return nil // network and address in one line: what counts is the address
		}
		return inventory.Errorf(inventory.KindRefused, "switch", s.Name, "switch '%s' is in network '%s' already", s.Name, name)
	}
	from, _ := tx.NetworkByID(s.Network)
	addr, fits := inventory.Move(s.Addr, from.Prefix, to.Prefix)
	if !fits && !moved {
		return inventory.Errorf(inventory.KindRefused, "switch", s.Name, "%s has no place in network '%s' (%s): give the address too, with --ip", s.Addr, name, to.Prefix)
	}
	s.Network, s.Addr = to.ID, addr
	return nil
}

func deleteSwitches(tx *inventory.Tx, c inventory.DeleteSwitches) error {
	for _, name := range c.Names {
		s, ok := tx.Switch(name)
		if !ok {
			return inventory.NotFound("switch", name)
		}
		var users []string
		for n := range tx.Nodes() {
			if n.Switch == s.ID {
				users = append(users, "[node/"+n.Name+"]")
			}
		}
		if len(users) > 0 {
			return inUse("switch", name, users)
		}
		release(tx, s.Addr)
		tx.Delete(s)
	}
	return nil
}

func addOtherDevs(tx *inventory.Tx, c inventory.AddOtherDevs) error {
	n, ok := tx.Network(c.Network)
	if !ok {
		return inventory.NotFound("network", c.Network)
	}
	for k, name := range c.Names {
		if _, ok := tx.OtherDev(name); ok {
			return inventory.Exists("otherdev", name)
		}
		d := &inventory.OtherDev{ID: tx.NewID(), Name: name, Connected: map[inventory.ID]netip.Addr{n.ID: after(c.Addr, k)}}
		if err := claimNew(tx, n, inventory.Owner{Addr: d.Connected[n.ID], Type: inventory.OwnerOtherDev, ID: d.ID}); err != nil {
			return err
		}
		tx.Put(d)
	}
	return nil
}

func changeOtherDevs(tx *inventory.Tx, c inventory.ChangeOtherDevs) error {
	var n *inventory.Network
	if c.Network != "" {
		var ok bool
		if n, ok = tx.Network(c.Network); !ok {
			return inventory.NotFound("network", c.Network)
		}
	}
	changed := make([]*inventory.OtherDev, 0, len(c.Names))
	for k, name := range c.Names {
		old, ok := tx.OtherDev(name)
		if !ok {
			return inventory.NotFound("otherdev", name)
		}
		d := *old
		d.Connected = cloneMap(old.Connected)
		setText(&d.Comment, c.Comment)
		if c.Addr.IsValid() || c.Detach {
			if had, ok := d.Connected[n.ID]; ok {
				release(tx, had)
			} else if c.Detach {
				return inventory.Errorf(inventory.KindRefused, "otherdev", name, "otherdev '%s' has no address in network '%s'", name, n.Name)
			}
			delete(d.Connected, n.ID)
		}
		if c.Addr.IsValid() {
			d.Connected[n.ID] = after(c.Addr, k)
		}
		changed = append(changed, &d)
	}
	for _, d := range changed {
		if c.Addr.IsValid() {
			if err := claim(tx, n, inventory.Owner{Addr: d.Connected[n.ID], Type: inventory.OwnerOtherDev, ID: d.ID}); err != nil {
				return err
			}
		}
		tx.Put(d)
	}
	return nil
}

func deleteOtherDevs(tx *inventory.Tx, c inventory.DeleteOtherDevs) error {
	for _, name := range c.Names {
		d, ok := tx.OtherDev(name)
		if !ok {
			return inventory.NotFound("otherdev", name)
		}
		releaseAll(tx, d)
		tx.Delete(d)
	}
	return nil
}
