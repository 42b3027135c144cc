package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

const (
	// drainPatience is how long nodes that boot from a head may take, where nobody
	// says otherwise.
	drainPatience = 10 * time.Minute
	// drainLook is how often a drain looks how far it is.
	drainLook = 200 * time.Millisecond
)

// ChangeHead tells a head what share of the duties to take.
func (a *Agent) ChangeHead(ctx context.Context, by inventory.Asker, name string, r api.HeadChange) error {
	if r.Weight != nil && *r.Weight < 1 {
		return inventory.Errorf(inventory.KindInvalid, "head", name, "the weight of a head is 1 to 100, not %d: `luna head drain %s` is what takes all duties from it", *r.Weight, name)
	}
	return a.tellHead(ctx, by, inventory.ChangeHead{Name: name, Weight: r.Weight})
}

// Undrain lets a head work again.
func (a *Agent) Undrain(ctx context.Context, by inventory.Asker, name string) error {
	no := false
	return a.tellHead(ctx, by, inventory.ChangeHead{Name: name, Drained: &no})
}

func (a *Agent) tellHead(ctx context.Context, by inventory.Asker, c inventory.Command) error {
	res, err := a.Propose(ctx, by, c)
	if err != nil {
		return err
	}
	return res.Into(nil)
}

// Drain takes from a head all that another one can do, and returns when it may be
// stopped.
func (a *Agent) Drain(ctx context.Context, by inventory.Asker, name string, r api.DrainRequest, progress func(api.JobEvent)) error {
	m, err := a.self()
	if err != nil {
		return err
	}
	h, ok := m.machine.View().Head(name)
	if !ok {
		return inventory.NotFound("head", name)
	}
	if err := checkWait(name, r.Wait); err != nil {
		return err
	}
	if !h.Witness && !m.othersServe(ctx, name) {
		return inventory.Errorf(inventory.KindRefused, "head", name, "no other head is there that could take over from '%s': start one, or undrain it, first", name)
	}
	yes := true
	if err := a.tellHead(ctx, by, inventory.ChangeHead{Name: name, Drained: &yes}); err != nil {
		return err
	}
	if r.NoWait {
		progress(api.JobEvent{Phase: api.JobDone, Message: fmt.Sprintf("head '%s' is drained, and what still boots from it goes on: `luna cluster safe %s` tells when it may go down", name, name)})
		return nil
	}
	if err := m.peer.DiskError(); err != nil {
		return inventory.Errorf(inventory.KindUnavailable, "head", name, "head '%s' is drained and takes nothing new, but head '%s' cannot see how far that is (%v): wait with `luna head drain %s` on another head", name, m.cfg.Name, err, name)
	}
	return m.waitDrained(ctx, name, cmp.Or(r.Wait, drainPatience), progress)
}

// checkWait refuses what is no time to wait.
func checkWait(head string, wait time.Duration) error {
	if wait < 0 {
		return inventory.Errorf(inventory.KindInvalid, "head", head, "nothing can wait for %s: give a time such as 90s or 10m", wait)
	}
	return nil
}

// othersServe tells whether a head beside that one is there to take over from it.
func (m *member) othersServe(ctx context.Context, name string) bool {
	answers := m.askAll(ctx)
	for h := range m.machine.View().Heads() {
		if h.Name != name && m.able(h.Name) && proven(h.Name, answers) {
			return true
		}
	}
	return false
}

// waitDrained waits until a head does nothing any more that keeps it.
func (m *member) waitDrained(ctx context.Context, name string, patience time.Duration, progress func(api.JobEvent)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	told := ""
	for calm := 0; ; {
		keeps, err := m.keeps(ctx, name)
		if err != nil {
			return err
		}
		words := strings.Join(keeps, ", ")
		if words != told && words != "" {
			progress(api.JobEvent{Phase: "drain", Message: fmt.Sprintf("head '%s' still %s", name, words)})
		}
		told = words
		if len(keeps) > 0 {
			calm = 0
		} else if calm++; calm == 3 { // a node may be between two files
			progress(api.JobEvent{Phase: api.JobDone, Message: fmt.Sprintf("head '%s' may be rebooted", name)})
			return nil
		}
		if !pause(ctx, drainLook) {
			return inventory.Errorf(inventory.KindUnavailable, "head", name, "head '%s' is drained and takes nothing new, but after %s still %s: wait again with `luna head drain %s`, or stop it and let the nodes go on from the other heads; `luna head undrain %s` ends the drain", name, patience, cmp.Or(words, "may do something"), name, name)
		}
	}
}

// keeps tells what a head still does that another one could do.
func (m *member) keeps(ctx context.Context, name string) ([]string, error) {
	inv := m.machine.View()
	h, ok := inv.Head(name)
	if !ok {
		return nil, inventory.NotFound("head", name)
	}
	if !h.Drained {
		return nil, inventory.Errorf(inventory.KindRefused, "head", name, "head '%s' was undrained meanwhile", name)
	}
	var keeps []string
	for n := range inv.Networks() {
		if n.Duty.Holder == h.ID && !n.Range.IsZero() {
			keeps = append(keeps, "answers DHCP on "+n.Name)
		}
	}
	for s := range inv.Switches() {
		if s.Duty.Holder == h.ID {
			keeps = append(keeps, "polls "+s.Name)
		}
	}
	if leader, _ := m.peer.Leader(); leader == name && m.otherVoters(name) {
		keeps = append(keeps, "leads")
	}
	s, err := m.statusOf(ctx, h)
	if err != nil {
		return keeps, nil //nolint:nilerr // it is down already
	}
	if s.Transfers > 0 {
		keeps = append(keeps, fmt.Sprintf("serves %s", plural(s.Transfers, "download")))
	}
	if len(s.Booting) > 0 {
		keeps = append(keeps, "is what "+inventory.CompressHostlist(s.Booting)+" reports to")
	}
	return keeps, nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// otherVoters tells whether a voter beside that one could lead: not a witness, and not
// drained.
func (m *member) otherVoters(name string) bool {
	return slices.ContainsFunc(m.voters(), func(voter string) bool { return voter != name && m.able(voter) })
}

// statusOf asks a head how it is; this one too.
func (m *member) statusOf(ctx context.Context, h *inventory.Head) (api.HeadStatus, error) {
	if h.Name == m.cfg.Name {
		return m.status(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return m.clientOf(h).Self(ctx)
}

// Leave drains this head, removes it from the cluster, and makes it nobody again.
func (a *Agent) Leave(ctx context.Context, by inventory.Asker, name string, r api.LeaveRequest, progress func(api.JobEvent)) error {
	m, err := a.self()
	if err != nil {
		return err
	}
	if name != a.cfg.Name {
		return inventory.Errorf(inventory.KindInvalid, "head", name, "this is head '%s': run `luna leave` on '%s', or `luna head remove %s` for one that is lost", a.cfg.Name, name, name)
	}
	if m.outside() != nil {
		return a.end(ctx, m, by, progress, "head '%s', which the cluster goes on without, has forgotten it; it may join again with a new token")
	}
	h, ok := m.machine.View().Head(name)
	if !ok {
		return inventory.NotFound("head", name)
	}
	if err := checkWait(name, r.Wait); err != nil {
		return err
	}
	if err := m.mayGo(ctx, h, r.Force); err != nil {
		return err
	}
	if !h.Witness && m.othersServe(ctx, name) {
		wait := api.DrainRequest{Wait: r.Wait, NoWait: r.NoWait || r.Force}
		if err := a.Drain(ctx, by, name, wait, quietEnd(progress)); err != nil && !r.Force {
			return inventory.Errorf(inventory.AsError(err).Kind, "head", name, "head '%s' has not left the cluster (`luna leave --force` waits for nothing): %v", name, err)
		}
	}
	if err := a.tellHead(ctx, by, inventory.RemoveHead{Name: name}); err != nil {
		return err
	}
	m.waitUncounted(ctx)
	return a.end(ctx, m, by, progress, "head '%s' has left the cluster; it may join again with a new token")
}

// end makes this head, which counts no more, nobody, and says so.
func (a *Agent) end(ctx context.Context, m *member, by inventory.Asker, progress func(api.JobEvent), say string) error {
	gone := api.JobEvent{Phase: api.JobDone, Message: fmt.Sprintf(say, a.cfg.Name)}
	if by.From != a.cfg.Name {
		progress(gone) // what it would be told by later ends with the member
	}
	m.end(func() (*member, error) {
		a.log.Info("this head has left the cluster")
		return nil, a.forget()
	})
	if err := a.gone(ctx); err != nil {
		return err
	}
	progress(gone)
	return nil
}

// waitUncounted waits until this head, which was removed, has no vote any more: if
// it stopped before, the others might wait for it. It is not told itself.
func (m *member) waitUncounted(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		for _, s := range m.askEach(ctx) {
			if s.Leader == s.Name && !slices.Contains(s.Voters, m.cfg.Name) {
				return
			}
		}
		if !pause(ctx, 100*time.Millisecond) {
			m.log.Warn("the other heads still count this one among the voters")
			return
		}
	}
}

// quietEnd passes on what a job says but for its end.
func quietEnd(progress func(api.JobEvent)) func(api.JobEvent) {
	return func(e api.JobEvent) {
		if e.Phase != api.JobDone {
			progress(e)
		}
	}
}

// gone waits until this head is nobody, for longer than its services may take to end.
func (a *Agent) gone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if _, err := a.self(); err != nil {
			return nil //nolint:nilerr // as wanted
		}
		if !pause(ctx, 20*time.Millisecond) {
			return inventory.Errorf(inventory.KindUnavailable, "head", a.cfg.Name, "head '%s' belongs to the cluster no more, but its services do not end: stop its agent, and empty %s before it joins again", a.cfg.Name, a.cfg.DataDir)
		}
	}
}

// forget removes what made this head a member, its identity first: a head with an
// identity and no state would take itself for a member. The artifacts stay: whoever
// joins again need not fetch them.
func (a *Agent) forget() error {
	err := os.RemoveAll(identityPath(a.cfg.DataDir))
	if err == nil {
		err = syncDir(a.cfg.DataDir)
	}
	for _, what := range []string{"join.key", "raft"} {
		err = errors.Join(err, os.RemoveAll(filepath.Join(a.cfg.DataDir, what)))
	}
	if err != nil {
		return fmt.Errorf("forget the cluster that this head has left: %w", err)
	}
	return nil
}

// RemoveHead forgets a head for good, and returns when the leader has taken its
// vote.
func (a *Agent) RemoveHead(ctx context.Context, by inventory.Asker, name string, force bool) error {
	m, err := a.self()
	if err != nil {
		return err
	}
	h, ok := m.machine.View().Head(name)
	if !ok {
		return inventory.NotFound("head", name)
	}
	if err := m.mayGo(ctx, h, force); err != nil {
		return err
	}
	if err := a.tellHead(ctx, by, inventory.RemoveHead{Name: name}); err != nil {
		return err
	}
	if name == a.cfg.Name {
		return nil // it is not told when it is let go
	}
	if m.peer.DiskError() != nil {
		return nil // it is not told either, and has said so
	}
	return m.waitGone(ctx, name)
}

// ReplaceHead removes a head that is lost and makes a token for another.
func (a *Agent) ReplaceHead(ctx context.Context, by inventory.Asker, name string, r api.ReplaceRequest) (api.InviteReply, error) {
	m, err := a.self()
	if err != nil {
		return api.InviteReply{}, err
	}
	if _, ok := m.machine.View().Head(name); ok && m.live(name) {
		return api.InviteReply{}, inventory.Errorf(inventory.KindRefused, "head", name, "head '%s' is there: a head that works is taken out with `luna leave` on it; replace is for one that is lost", name)
	}
	if _, err := tokenLife(r.TTL); err != nil {
		return api.InviteReply{}, err // before anything is removed
	}
	if err := a.RemoveHead(ctx, by, name, r.Force); err != nil {
		return api.InviteReply{}, err
	}
	reply, err := a.Invite(ctx, by, api.InviteRequest{TTL: r.TTL})
	if err != nil {
		return reply, inventory.Errorf(inventory.AsError(err).Kind, "head", name, "head '%s' is removed, but there is no token for the one in its place yet (%v): make it with `luna head invite`", name, err)
	}
	return reply, nil
}

// tokenLife is how long a join token is good.
func tokenLife(ttl time.Duration) (time.Duration, error) {
	ttl = cmp.Or(ttl, time.Hour)
	if ttl < time.Second || ttl > 30*24*time.Hour {
		return 0, inventory.Errorf(inventory.KindInvalid, "head", "", "a token may live from one second to 30 days, not %s", ttl)
	}
	return ttl, nil
}

// mayGo refuses to let a head go for good where that costs something that nobody
// else can give.
func (m *member) mayGo(ctx context.Context, h *inventory.Head, force bool) error {
	if m.onlyHead() {
		return inventory.Errorf(inventory.KindRefused, "head", h.Name, "'%s' is the only head: without it there is no cluster. To end the cluster, stop its agent and empty %s", h.Name, m.cfg.DataDir)
	}
	if m.outvoted() {
		return inventory.Errorf(inventory.KindUnavailable, "head", h.Name, "no change can be made now: %s", m.undecided())
	}
	if force {
		return nil
	}
	answers := m.askAll(ctx)
	gives := func(head string) bool {
		_, answered := answers[head]
		return answered && m.live(head)
	}
	costs := slices.Concat(m.votes().without(h.Name, true, answers), m.imagesOnlyOn(h, gives))
	switch {
	case !m.live(h.Name):
		return m.lostFor(h, costs)
	case len(costs) > 0:
		return inventory.Errorf(inventory.KindRefused, "head", h.Name, "head '%s' cannot be removed: %s (--force removes it all the same)", h.Name, strings.Join(costs, "; "))
	}
	return nil
}

// onlyHead tells whether the cluster has no other head.
func (m *member) onlyHead() bool {
	n := 0
	for range m.machine.View().Heads() {
		n++
	}
	return n == 1
}

// lostFor refuses to remove a head that does not answer unless a person says that
// it will not come back: it may be cut off only, and go on booting nodes.
func (m *member) lostFor(h *inventory.Head, costs []string) error {
	text := fmt.Sprintf("head '%s' does not answer, and may go on booting the nodes that it knows: see to it that it is off and stays so, then remove it with --force", h.Name)
	if len(costs) > 0 {
		text += "; that costs: " + strings.Join(costs, "; ")
	}
	return inventory.Errorf(inventory.KindRefused, "head", h.Name, "%s", text)
}

// goneFromRaft refuses a head that wants to join under the name of one that was
// removed just now, until nobody counts the vote of the old one any more.
func (m *member) goneFromRaft(name string) error {
	if _, known := m.machine.View().Head(name); known {
		return nil // whether it may is for the state to say
	}
	servers, err := m.peer.Servers()
	if err != nil {
		return err
	}
	for _, s := range servers {
		if s.Name == name {
			return inventory.Errorf(inventory.KindUnavailable, "head", name, "the head '%s' that was removed still counts among the voters: try again in a few seconds", name)
		}
	}
	return nil
}

// waitGone waits until a head that was removed has no vote.
func (m *member) waitGone(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := m.goneFromRaft(name)
		if err == nil {
			return nil
		}
		if !pause(ctx, 50*time.Millisecond) {
			return inventory.Errorf(inventory.KindUnavailable, "head", name, "head '%s' is removed, but its vote still counts: `luna cluster status` tells when it does not, and `luna head invite` makes a token for another", name)
		}
	}
}
