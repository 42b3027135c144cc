package fsm_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/clustervision/luna/inventory"
)

// state is an inventory as its snapshot tells it: a second opinion, which uses
// no lookup of the inventory and nothing of the machine.
type state struct {
	Sequence  inventory.Sequence
	Cluster   *inventory.Cluster
	Networks  []inventory.Network
	OSImages  []inventory.OSImage
	Versions  []inventory.ImageVersion
	BMCSetups []inventory.BMCSetup
	Groups    []inventory.Group
	Switches  []inventory.Switch
	OtherDevs []inventory.OtherDev
	Nodes     []inventory.Node
	Statuses  []inventory.Status
	Heads     []inventory.Head
	Leases    []inventory.Lease
	Retired   []inventory.Retired
	Owners    []inventory.Owner
	Entries   []inventory.Entry
	Receipts  int
	Invites   []inventory.Invite
}

// parse reads a snapshot.
func parse(snapshot string) (*state, error) {
	s := &state{}
	lines := bufio.NewScanner(strings.NewReader(snapshot))
	lines.Buffer(nil, 1<<26)
	lines.Scan() // the header
	for lines.Scan() {
		var record struct {
			T string
			O json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &record); err != nil {
			return nil, err
		}
		if err := s.add(record.T, record.O); err != nil {
			return nil, fmt.Errorf("%s: %w", record.T, err)
		}
	}
	return s, lines.Err()
}

func (s *state) add(table string, raw json.RawMessage) error {
	switch table {
	case "sequence":
		return json.Unmarshal(raw, &s.Sequence)
	case "cluster":
		return json.Unmarshal(raw, &s.Cluster)
	case "network":
		return more(&s.Networks, raw)
	case "osimage":
		return more(&s.OSImages, raw)
	case "version":
		return more(&s.Versions, raw)
	case "bmcsetup":
		return more(&s.BMCSetups, raw)
	case "group":
		return more(&s.Groups, raw)
	case "switch":
		return more(&s.Switches, raw)
	case "otherdev":
		return more(&s.OtherDevs, raw)
	case "node":
		return more(&s.Nodes, raw)
	case "status":
		return more(&s.Statuses, raw)
	case "head":
		return more(&s.Heads, raw)
	case "lease":
		return more(&s.Leases, raw)
	case "retired":
		return more(&s.Retired, raw)
	case "address":
		return more(&s.Owners, raw)
	case "log":
		return more(&s.Entries, raw)
	case "receipt":
		s.Receipts++
		return nil
	case "invite":
		return more(&s.Invites, raw)
	}
	return fmt.Errorf("a table that the test does not know")
}

func more[T any](list *[]T, raw json.RawMessage) error {
	var o T
	err := json.Unmarshal(raw, &o)
	*list = append(*list, o)
	return err
}

// consistent checks the whole state against itself.
func consistent(inv *inventory.Inventory) error {
	snapshot, err := text(inv)
	if err != nil {
		return err
	}
	s, err := parse(snapshot)
	if err != nil {
		return err
	}
	return s.consistent()
}

func (s *state) consistent() error {
	for _, check := range []func() error{s.checkNames, s.checkIDs, s.checkReferences, s.checkAddresses, s.checkRanges, s.checkRetired} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *state) checkNames() error {
	seen := map[string]bool{}
	once := func(kind, name string) error {
		if seen[kind+"/"+name] {
			return fmt.Errorf("two of type %s have %s", kind, name)
		}
		seen[kind+"/"+name] = true
		return nil
	}
	var errs []error
	for _, o := range s.Networks {
		errs = append(errs, once("network", o.Name), once("prefix", o.Prefix.String()))
	}
	for _, o := range s.OSImages {
		errs = append(errs, once("osimage", o.Name), once("path", o.Path))
	}
	for _, o := range s.BMCSetups {
		errs = append(errs, once("bmcsetup", o.Name))
	}
	for _, o := range s.Groups {
		errs = append(errs, once("group", o.Name))
		for _, i := range o.Interfaces {
			errs = append(errs, once("interface", fmt.Sprint(o.ID, i.Name)))
		}
	}
	for _, o := range s.Switches {
		errs = append(errs, once("switch", o.Name))
	}
	for _, o := range s.OtherDevs {
		errs = append(errs, once("otherdev", o.Name))
	}
	for _, o := range s.Nodes {
		errs = append(errs, once("node", o.Name))
		if o.MAC != "" {
			errs = append(errs, once("mac", string(o.MAC)))
		}
	}
	for _, o := range s.Heads {
		errs = append(errs, once("head", o.Name))
	}
	return firstOf(errs)
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkIDs holds that no two objects have one ID, and none has one that is to
// be given yet.
func (s *state) checkIDs() error {
	seen := map[inventory.ID]string{}
	once := func(id inventory.ID, what string) error {
		if other, twice := seen[id]; twice || id == 0 || id > s.Sequence.NextID {
			return fmt.Errorf("%s has ID %d of %d, as %s", what, id, s.Sequence.NextID, other)
		}
		seen[id] = what
		return nil
	}
	var errs []error
	for _, o := range s.Networks {
		errs = append(errs, once(o.ID, "network "+o.Name))
	}
	for _, o := range s.OSImages {
		errs = append(errs, once(o.ID, "osimage "+o.Name))
	}
	for _, o := range s.BMCSetups {
		errs = append(errs, once(o.ID, "bmcsetup "+o.Name))
	}
	for _, o := range s.Groups {
		errs = append(errs, once(o.ID, "group "+o.Name))
		for _, i := range o.Interfaces {
			errs = append(errs, once(i.ID, "interface "+i.Name))
		}
	}
	for _, o := range s.Switches {
		errs = append(errs, once(o.ID, "switch "+o.Name))
	}
	for _, o := range s.OtherDevs {
		errs = append(errs, once(o.ID, "otherdev "+o.Name))
	}
	for _, o := range s.Nodes {
		errs = append(errs, once(o.ID, "node "+o.Name))
	}
	for _, o := range s.Heads {
		errs = append(errs, once(o.ID, "head "+o.Name))
	}
	return firstOf(errs)
}

// family gives the prefixes of the networks of one family by their ID.
func (s *state) family(is6 bool) map[inventory.ID]netip.Prefix {
	m := map[inventory.ID]netip.Prefix{}
	for _, n := range s.Networks {
		if n.Prefix.Addr().Is6() == is6 {
			m[n.ID] = n.Prefix
		}
	}
	return m
}

func (s *state) checkReferences() error {
	known := map[string]bool{}
	ref := func(of string, id inventory.ID) string { return fmt.Sprintf("%s %d", of, id) }
	for _, o := range s.Networks {
		known[ref("network", o.ID)] = true
	}
	for _, o := range s.OSImages {
		known[ref("osimage", o.ID)] = true
	}
	for _, o := range s.BMCSetups {
		known[ref("bmcsetup", o.ID)] = true
	}
	for _, o := range s.Groups {
		known[ref("group", o.ID)] = true
	}
	for _, o := range s.Switches {
		known[ref("switch", o.ID)] = true
	}
	for _, o := range s.Nodes {
		known[ref("node", o.ID)] = true
	}
	for _, o := range s.Heads {
		known[ref("head", o.ID)] = true
	}
	var refs []string
	optional := func(of string, id inventory.ID) {
		if id != 0 {
			refs = append(refs, ref(of, id))
		}
	}
	for _, o := range s.Networks {
		optional("head", o.Duty.Holder)
	}
	for _, o := range s.Versions {
		refs = append(refs, ref("osimage", o.Image))
		for _, h := range o.Holders {
			refs = append(refs, ref("head", h))
		}
	}
	for _, o := range s.Groups {
		refs = append(refs, ref("osimage", o.OSImage))
		optional("bmcsetup", o.BMCSetup)
		optional("network", o.Domain)
		for _, i := range o.Interfaces {
			optional("network", i.Network4)
			optional("network", i.Network6)
		}
		if _, ok := o.Interface(ptrValue(o.TorrentIF)); !ok && o.TorrentIF != nil {
			return fmt.Errorf("group %s has no torrent_if %s", o.Name, *o.TorrentIF)
		}
	}
	for _, o := range s.Switches {
		refs = append(refs, ref("network", o.Network))
		optional("head", o.Duty.Holder)
	}
	for _, o := range s.OtherDevs {
		for id := range o.Connected {
			refs = append(refs, ref("network", id))
		}
	}
	for _, o := range s.Nodes {
		refs = append(refs, ref("group", o.Group))
		optional("switch", o.Switch)
		if !slices.IsSorted(o.Tags) || len(slices.Compact(slices.Clone(o.Tags))) != len(o.Tags) {
			return fmt.Errorf("the tags of node %s are %v", o.Name, o.Tags)
		}
	}
	for _, o := range s.Statuses {
		refs = append(refs, ref("node", o.Node))
	}
	for _, o := range s.Leases {
		refs = append(refs, ref("network", o.Network))
	}
	for _, r := range refs {
		if !known[r] {
			return fmt.Errorf("something refers to %s, which is gone", r)
		}
	}
	if s.Cluster != nil && s.Cluster.Deleted && len(refs) > 0 {
		return fmt.Errorf("the cluster is deleted and not empty")
	}
	return nil
}

func ptrValue(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// heads gives the heads' own addresses.
func (s *state) heads() map[netip.Addr]bool {
	m := map[netip.Addr]bool{}
	for _, h := range s.Heads {
		m[h.Address] = true
		for _, p := range h.Addresses {
			m[p.Addr()] = true
		}
	}
	return m
}

// checkAddresses holds that the table of addresses is what the objects say, each
// address of one owner and within its network.
func (s *state) checkAddresses() error {
	var errs []error
	want := map[netip.Addr]inventory.Owner{}
	four, six := s.family(false), s.family(true)
	put := func(o inventory.Owner) {
		p, ok := four[o.Network]
		if !ok {
			p = six[o.Network]
		}
		if !p.Contains(o.Addr) {
			errs = append(errs, fmt.Errorf("%v lies outside its network %s", o, p))
		}
		if other, twice := want[o.Addr]; twice {
			errs = append(errs, fmt.Errorf("%v and %v have one address", o, other))
		}
		want[o.Addr] = o
	}
	heads := s.heads()
	for _, n := range s.Networks {
		if !n.Prefix.Contains(n.NSIP) {
			errs = append(errs, fmt.Errorf("network %s has its name server at %v", n.Name, n.NSIP))
		}
		if !heads[n.NSIP] {
			put(inventory.Owner{Addr: n.NSIP, Network: n.ID, Type: "network", ID: n.ID})
		}
		for _, a := range n.Reserved {
			put(inventory.Owner{Addr: a, Network: n.ID, Type: "reserved", ID: n.ID})
		}
	}
	for _, o := range s.Switches {
		put(inventory.Owner{Addr: o.Addr, Network: o.Network, Type: "switch", ID: o.ID})
	}
	for _, o := range s.OtherDevs {
		for n, a := range o.Connected {
			put(inventory.Owner{Addr: a, Network: n, Type: "otherdev", ID: o.ID})
		}
	}
	groups := map[inventory.ID]inventory.Group{}
	for _, g := range s.Groups {
		groups[g.ID] = g
	}
	for _, o := range s.Nodes {
		left := len(o.Interfaces)
		for _, i := range groups[o.Group].Interfaces {
			a, ok := o.Interfaces[i.ID]
			if ok {
				left--
			}
			_, is4 := four[i.Network4]
			_, is6 := six[i.Network6]
			if a.V4.IsValid() != is4 || a.V6.IsValid() != is6 || (i.Network4 != 0) != is4 || (i.Network6 != 0) != is6 {
				errs = append(errs, fmt.Errorf("node %s has %v on %v", o.Name, a, i))
			}
			if is4 {
				put(inventory.Owner{Addr: a.V4, Network: i.Network4, Type: "node", ID: o.ID, Iface: i.ID})
			}
			if is6 {
				put(inventory.Owner{Addr: a.V6, Network: i.Network6, Type: "node", ID: o.ID, Iface: i.ID})
			}
		}
		if left != 0 {
			errs = append(errs, fmt.Errorf("node %s has addresses on interfaces that are gone: %v", o.Name, o.Interfaces))
		}
	}
	for _, o := range s.Owners {
		if want[o.Addr] != o {
			errs = append(errs, fmt.Errorf("%v is lost: %v", o, want[o.Addr]))
		}
		delete(want, o.Addr)
	}
	for _, o := range want {
		errs = append(errs, fmt.Errorf("%v is free to be given away", o))
	}
	return firstOf(errs)
}

// checkRanges holds that nobody has an address in a pool, and every lease is in
// one.
func (s *state) checkRanges() error {
	ranges := map[inventory.ID]inventory.AddrRange{}
	for k, n := range s.Networks {
		ranges[n.ID] = n.Range
		for _, other := range s.Networks[:k] {
			if other.Prefix.Overlaps(n.Prefix) {
				return fmt.Errorf("networks %s and %s overlap", n.Name, other.Name)
			}
		}
		for _, o := range s.Owners {
			if n.Range.Contains(o.Addr) {
				return fmt.Errorf("%v lies in the range of network %s", o, n.Name)
			}
		}
		if n.Range.Contains(s.Cluster.FrontendAddress) {
			return fmt.Errorf("the front end lies in the range of network %s", n.Name)
		}
		if !n.Range.IsZero() && (!n.Prefix.Contains(n.Range.Start) || !n.Prefix.Contains(n.Range.End)) {
			return fmt.Errorf("the range of network %s is %v", n.Name, n.Range)
		}
	}
	for _, l := range s.Leases {
		if !ranges[l.Network].Contains(l.Addr) {
			return fmt.Errorf("the lease %v lies outside of its range", l)
		}
	}
	return nil
}

// has tells whether a machine has an address, as a node or by a lease.
func (s *state) has(mac inventory.MAC, a netip.Addr) bool {
	for _, n := range s.Nodes {
		for _, i := range n.Interfaces {
			if n.MAC == mac && i.V4 == a {
				return true
			}
		}
	}
	return slices.ContainsFunc(s.Leases, func(l inventory.Lease) bool { return l.MAC == mac && l.Addr == a })
}

// checkRetired holds that an address is retired from a machine once, and only
// from one that does not have it, and that a state of format 1 has nothing of
// format 2.
func (s *state) checkRetired() error {
	type key struct {
		addr netip.Addr
		mac  inventory.MAC
	}
	seen := map[key]bool{}
	for _, r := range s.Retired {
		k := key{r.Addr, r.MAC}
		switch {
		case seen[k] || !r.Addr.IsValid() || r.MAC == "":
			return fmt.Errorf("%v is retired from nobody, or twice", r)
		case s.has(r.MAC, r.Addr):
			return fmt.Errorf("%v is retired from the machine that has it", r)
		case (r.Index == 0) == r.Until.IsZero():
			return fmt.Errorf("%v is neither a node's nor a lease", r)
		case r.At.After(s.Sequence.Clock) || r.At.IsZero():
			return fmt.Errorf("%v was retired at %v, by a clock that is at %v", r, r.At, s.Sequence.Clock)
		}
		seen[k] = true
	}
	q := s.Sequence
	if q.Format < 2 && (q.Format != 0 || !q.Clock.IsZero() || q.Held || len(s.Retired) > 0) || q.Format == 2 && q.Clock.IsZero() {
		return fmt.Errorf("the state is of format %d, with clock %v, held %t, %d retired addresses", q.Format, q.Clock, q.Held, len(s.Retired))
	}
	return nil
}

// lowestFree gives the address that the next one in the network must get, by
// counting: the first that nobody has, or may have while that is asked for.
func (s *state) lowestFree(n inventory.Network) netip.Addr {
	used := s.heads()
	if s.Sequence.Held {
		for _, r := range s.Retired {
			used[r.Addr] = true
		}
	}
	used[s.Cluster.FrontendAddress] = true
	for _, o := range s.Owners {
		used[o.Addr] = true
	}
	for a := n.Prefix.Addr().Next(); n.Prefix.Contains(a.Next()); a = a.Next() {
		if !used[a] && !n.Range.Contains(a) {
			return a
		}
	}
	return netip.Addr{}
}

// objects gives everything in the state that is the administrator's, by type and
// ID, without what heads keep in it.
func (s *state) objects() map[string]string {
	m := map[string]string{}
	put := func(kind string, id any, o any) {
		var b bytes.Buffer
		if err := json.NewEncoder(&b).Encode(o); err != nil {
			panic(err)
		}
		m[fmt.Sprintf("%s %v", kind, id)] = strings.TrimSpace(b.String())
	}
	if s.Cluster != nil {
		c := *s.Cluster
		c.Secrets, c.Generation = inventory.Secrets{}, 0
		put("cluster", 0, c)
	}
	for _, o := range s.Networks {
		o.Duty = inventory.Duty{}
		put("network", o.ID, o)
	}
	for _, o := range s.OSImages {
		put("osimage", o.ID, o)
	}
	for _, o := range s.BMCSetups {
		put("bmcsetup", o.ID, o)
	}
	for _, o := range s.Groups {
		put("group", o.ID, o)
	}
	for _, o := range s.Switches {
		o.Duty = inventory.Duty{}
		put("switch", o.ID, o)
	}
	for _, o := range s.OtherDevs {
		put("otherdev", o.ID, o)
	}
	for _, o := range s.Nodes {
		put("node", o.ID, o)
	}
	return m
}
