package agent

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/consensus"
	"github.com/clustervision/luna/inventory"
)

// Self tells how this head is.
func (a *Agent) Self(context.Context) (api.HeadStatus, error) {
	if m, err := a.self(); err == nil {
		return m.status(), nil
	}
	return api.HeadStatus{
		Name: a.cfg.Name, Version: a.cfg.Version, Format: inventory.FormatVersion,
		Warnings: []string{}, Progress: map[string]api.Progress{}, Booting: []string{}, Voters: []string{},
	}, nil
}

// status tells how this head is as a member.
func (m *member) status() api.HeadStatus {
	s := api.HeadStatus{
		Name: m.cfg.Name, Member: true, Version: m.cfg.Version, Format: inventory.FormatVersion,
		AppliedIndex: m.peer.AppliedIndex(), CommitIndex: m.peer.CommitIndex(), SyncedIndex: m.peer.SyncApplied(),
		Transfers: int(m.transfers.Load()), Warnings: m.warn.list(), Progress: m.reports.progress(),
	}
	s.Leader, _ = m.peer.Leader()
	s.Booting = slices.Sorted(maps.Keys(s.Progress))
	s.Voters = m.voters()
	if away := m.peer.LastContact(); away > cutOff {
		s.CutOff = away.Seconds()
	}
	if err := m.outside(); err != nil {
		s.Warnings = append(s.Warnings, err.Error())
	}
	return s
}

// askPatience is how long a head that is asked how it is may take to answer.
const askPatience = 2 * time.Second

// askAll asks each head that is alive how it is, this one too.
func (m *member) askAll(ctx context.Context) map[string]api.HeadStatus {
	status := m.askEach(ctx)
	status[m.cfg.Name] = m.status()
	return status
}

// askEach asks every other head that is alive, at the same time, each with the
// same short deadline; who does not answer is left out.
func (m *member) askEach(ctx context.Context) map[string]api.HeadStatus {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	alive := m.alive()
	var (
		mu  sync.Mutex
		wg  sync.WaitGroup
		got = map[string]api.HeadStatus{}
	)
	for h := range m.machine.View().Heads() {
		if h.Name == m.cfg.Name || !alive[h.Name] {
			continue
		}
		wg.Go(func() {
			s, err := m.clientOf(h).Self(ctx)
			if err != nil {
				return
			}
			mu.Lock()
			got[h.Name] = s
			mu.Unlock()
		})
	}
	wg.Wait()
	return got
}

// Heads tells of every head, as seen from this one.
func (a *Agent) Heads(ctx context.Context) ([]api.Head, error) {
	m, err := a.self()
	if err != nil {
		return nil, err
	}
	status := m.askAll(ctx)
	members := map[string]consensus.Member{}
	for _, p := range m.peer.Members() {
		members[p.Name] = p
	}
	servers, err := m.peer.Servers()
	if err != nil {
		return nil, err
	}
	leader, _ := m.peer.Leader()
	inv := m.machine.View()
	heads := []api.Head{}
	for h := range inv.Heads() {
		w := api.Head{
			Name: h.Name, Address: h.Address, Addresses: append([]netip.Prefix{}, h.Addresses...), Version: h.Version, Joined: h.Joined, Leader: h.Name == leader,
			State: "failed", Role: "joining", AppliedIndex: status[h.Name].AppliedIndex, Networks: []string{},
			Warnings: append([]string{}, status[h.Name].Warnings...),
			Drained:  h.Drained, Witness: h.Witness, Weight: max(1, h.Weight), CutOff: status[h.Name].CutOff,
		}
		if p, ok := members[h.Name]; ok {
			w.State, w.Since = string(p.State), p.Since
		}
		for _, s := range servers {
			if s.Name == h.Name {
				w.Role = "nonvoter"
				if s.Voter {
					w.Role = "voter"
				}
			}
		}
		if w.State == string(consensus.Alive) { // of a dead one only the next leader takes the duty
			w.Networks = append(w.Networks, answersOn(inv, h)...)
			if _, answered := status[h.Name]; !answered {
				w.Warnings = append(w.Warnings, fmt.Sprintf("is alive, but has not answered head '%s' within %s: see to its clock, its firewall (port %d) and its log", m.cfg.Name, askPatience, h.APIPort))
			}
		}
		heads = append(heads, w)
	}
	return heads, nil
}

// answersOn names the networks on which the head holds DHCP.
func answersOn(inv *inventory.Inventory, h *inventory.Head) (networks []string) {
	for n := range inv.Networks() {
		if n.Duty.Holder == h.ID && !n.Range.IsZero() {
			networks = append(networks, n.Name)
		}
	}
	return networks
}

// Progress gives the running downloads of the nodes, from whichever head they
// report to.
func (a *Agent) Progress(ctx context.Context, _ []string) map[string]api.Progress {
	m, err := a.self()
	if err != nil {
		return nil
	}
	all := m.reports.progress()
	for _, s := range m.askEach(ctx) {
		for node, p := range s.Progress {
			if mine, ok := all[node]; !ok || p.Age < mine.Age {
				all[node] = p
			}
		}
	}
	return all
}

// warnings is what is wrong on this head now, in words, by what it is about.
type warnings struct {
	mu   sync.Mutex
	text map[string]string
}

// set replaces the warning about a subject; nil ends it.
func (w *warnings) set(subject string, err error) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.text == nil {
		w.text = map[string]string{}
	}
	was := w.text[subject]
	if err == nil {
		delete(w.text, subject)
		return was != ""
	}
	w.text[subject] = err.Error()
	return was != err.Error()
}

func (w *warnings) list() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := []string{}
	for _, subject := range slices.Sorted(maps.Keys(w.text)) {
		list = append(list, subject+": "+w.text[subject])
	}
	return list
}
