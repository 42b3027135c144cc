package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/consensus"
	"github.com/clustervision/luna/inventory"
)

// lagAllowed is how many entries a head may be behind and still count as one that
// has what the others have: some seconds' worth of work.
const lagAllowed = 1000

// Safe tells whether a head may go down now.
func (a *Agent) Safe(ctx context.Context, name string) (api.Safety, error) {
	m, err := a.self()
	if err != nil {
		return api.Safety{}, err
	}
	h, ok := m.machine.View().Head(name)
	if !ok {
		return api.Safety{}, inventory.NotFound("head", name)
	}
	s := api.Safety{Head: name, Reasons: []string{}, Notes: []string{}}
	answers := m.askAll(ctx)
	s.Reasons = append(s.Reasons, m.votes().without(name, false, answers)...)
	s.Reasons = append(s.Reasons, lagWithout(name, answers)...)
	s.Reasons = append(s.Reasons, m.imagesOnlyOn(h, func(head string) bool { return m.serving(head) && proven(head, answers) })...)
	s.Reasons = append(s.Reasons, m.networksOnlyOn(h, answers)...)
	status, answered := answers[name]
	switch {
	case !answered:
		s.Notes = append(s.Notes, fmt.Sprintf("head '%s' does not answer: nobody knows whether nodes boot from it", name))
	case len(status.Booting) > 0:
		s.Reasons = append(s.Reasons, fmt.Sprintf("%s boots from it at this moment", inventory.CompressHostlist(status.Booting)))
	case status.Transfers > 0:
		s.Reasons = append(s.Reasons, fmt.Sprintf("it serves %s at this moment", plural(status.Transfers, "download")))
	}
	switch leader, _ := m.peer.Leader(); leader {
	case "":
		s.Reasons = append(s.Reasons, "no head leads: "+m.undecided())
	case name:
		s.Notes = append(s.Notes, "it leads: changes wait about a second for another leader, or none if it is drained first")
	}
	if !h.Drained && !h.Witness {
		s.Notes = append(s.Notes, fmt.Sprintf("it is not drained: `luna head drain %s` makes it quiet first", name))
	}
	s.Safe = len(s.Reasons) == 0
	return s, nil
}

// lagWithout tells which other heads do not have yet what was decided.
func lagWithout(name string, answers map[string]api.HeadStatus) []string {
	newest := uint64(0)
	for _, s := range answers {
		newest = max(newest, s.AppliedIndex)
	}
	var why []string
	for _, other := range slices.Sorted(maps.Keys(answers)) {
		if behind := newest - answers[other].AppliedIndex; other != name && behind > lagAllowed {
			why = append(why, fmt.Sprintf("head '%s' is still catching up: %d changes behind", other, behind))
		}
	}
	return why
}

// imagesOnlyOn lists the image versions of which no other head that counts has a copy.
func (m *member) imagesOnlyOn(h *inventory.Head, counts func(head string) bool) []string {
	inv := m.machine.View()
	var why []string
	for v := range inv.Versions() {
		if !slices.Contains(v.Holders, h.ID) {
			continue
		}
		o, _ := inv.OSImageByID(v.Image)
		var others []string
		there := false
		for _, id := range v.Holders {
			if other, ok := inv.HeadByID(id); ok && id != h.ID {
				others = append(others, other.Name)
				there = there || counts(other.Name)
			}
		}
		switch {
		case there:
		case len(others) == 0:
			why = append(why, fmt.Sprintf("no other head holds version %s of osimage '%s'", v.ID, o.Name))
		default:
			why = append(why, fmt.Sprintf("version %s of osimage '%s' is else only on %s, which cannot give it now", v.ID, o.Name, inventory.CompressHostlist(others)))
		}
	}
	return why
}

// networksOnlyOn lists the networks with DHCP on which no other head is there.
func (m *member) networksOnlyOn(h *inventory.Head, answers map[string]api.HeadStatus) []string {
	inv := m.machine.View()
	var why []string
	for n := range inv.Networks() {
		if _, on := h.AddressIn(n.Prefix); n.Range.IsZero() || !on {
			continue
		}
		others := 0
		for o := range inv.Heads() {
			if _, on := o.AddressIn(n.Prefix); on && o.ID != h.ID && m.able(o.Name) && proven(o.Name, answers) {
				others++
			}
		}
		if others == 0 {
			why = append(why, fmt.Sprintf("no other head that is there can answer DHCP on network '%s'", n.Name))
		}
	}
	return why
}

// Status tells how the whole cluster is.
func (a *Agent) Status(ctx context.Context) (api.ClusterStatus, error) {
	m, err := a.self()
	if err != nil {
		return api.ClusterStatus{}, err
	}
	heads, err := a.Heads(ctx)
	if err != nil {
		return api.ClusterStatus{}, err
	}
	inv := m.machine.View()
	c, _ := inv.Cluster()
	s := api.ClusterStatus{
		Asked: m.cfg.Name, Format: inv.Format(), Heads: heads, Duties: dutiesOf(inv),
		Images: imagesOf(inv), Nodes: nodesOf(inv), Waiting: len(retired(inv)), Warnings: []string{},
	}
	if c != nil {
		s.Cluster = c.UUID
	}
	v := m.votes()
	s.Voters, s.Alive = len(v.all), len(v.there) // one that was removed may still count
	for _, h := range heads {
		if h.Leader {
			s.Leader = h.Name
		}
		since := h.Since.Local().Format("2006-01-02 15:04:05")
		switch {
		case h.State == string(consensus.Failed) && h.Since.IsZero():
			s.Warnings = append(s.Warnings, fmt.Sprintf("%s: has not answered since the agent of %s started", h.Name, m.cfg.Name))
		case h.State == string(consensus.Failed):
			s.Warnings = append(s.Warnings, fmt.Sprintf("%s: does not answer since %s", h.Name, since))
		case h.State == string(consensus.Left):
			s.Warnings = append(s.Warnings, fmt.Sprintf("%s: its agent was stopped at %s, and its vote still counts", h.Name, since))
		case h.CutOff > 0:
			s.Warnings = append(s.Warnings, fmt.Sprintf("%s: hears of no head that leads for %.0f s: it changes nothing, and goes on booting the nodes that it knows", h.Name, h.CutOff))
		}
		for _, w := range h.Warnings {
			s.Warnings = append(s.Warnings, h.Name+": "+w)
		}
	}
	s.Quorum = s.Voters/2 + 1
	for _, d := range s.Duties {
		if d.Holder == "" {
			s.Warnings = append(s.Warnings, fmt.Sprintf("no head can do the duty %s on '%s'", d.Duty, d.On))
		}
	}
	for _, i := range s.Images {
		if i.Version == "" {
			s.Warnings = append(s.Warnings, fmt.Sprintf("osimage '%s' has no version that nodes can boot", i.Name))
		}
	}
	return s, nil
}

func dutiesOf(inv *inventory.Inventory) []api.DutyStatus {
	duties := []api.DutyStatus{}
	add := func(kind, on string, d inventory.Duty) {
		holder := ""
		if h, ok := inv.HeadByID(d.Holder); ok {
			holder = h.Name
		}
		duties = append(duties, api.DutyStatus{Duty: kind, On: on, Holder: holder, Epoch: d.Epoch})
	}
	for n := range inv.Networks() {
		if !n.Range.IsZero() {
			add(dutyDHCP, n.Name, n.Duty)
		}
	}
	for s := range inv.Switches() {
		add(dutyPoll, s.Name, s.Duty)
	}
	return duties
}

func imagesOf(inv *inventory.Inventory) []api.ImageStatus {
	images := []api.ImageStatus{}
	for o := range inv.OSImages() {
		s := api.ImageStatus{Name: o.Name, Heads: []string{}, Missing: []string{}}
		if c, ok := inv.Cluster(); ok {
			s.Replicas = c.Replicas
		}
		v, ok := inv.BootVersion(o.ID)
		for h := range inv.Heads() {
			switch {
			case !ok || h.Witness:
			case slices.Contains(v.Holders, h.ID):
				s.Heads = append(s.Heads, h.Name)
			default:
				s.Missing = append(s.Missing, h.Name)
			}
		}
		if ok {
			s.Version = v.ID
		}
		images = append(images, s)
	}
	return images
}

func nodesOf(inv *inventory.Inventory) api.NodeCounts {
	var c api.NodeCounts
	for n := range inv.Nodes() {
		c.Total++
		switch s, ok := inv.Status(n.ID); {
		case !ok:
			c.Silent++
		case s.Failed:
			c.Failed++
		case s.Stage == boot.StageSuccess:
			c.Booted++
		default:
			c.Booting++
		}
	}
	return c
}
