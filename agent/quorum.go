package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/consensus"
	"github.com/clustervision/luna/inventory"
)

// Three words of a head. It is alive where gossip hears of it. It is fit where it can also
// keep what it is told: only then does its vote count for anything. It serves where nodes
// are to be sent to it, which a head may do whose log is not written. Only one that is both
// is able to take a duty over; see obeys too.

// alive gives the names of the heads that gossip sees alive, this one included.
func (m *member) alive() map[string]bool {
	alive := map[string]bool{m.cfg.Name: true}
	for _, p := range m.peer.Members() {
		if p.State == consensus.Alive {
			alive[p.Name] = true
		}
	}
	return alive
}

// live tells whether a head is alive.
func (m *member) live(head string) bool { return m.alive()[head] }

// fit gives the heads that are alive and can keep what they are told.
func (m *member) fit() map[string]bool {
	fit := m.alive()
	for _, p := range m.peer.Members() {
		if p.Unfit {
			delete(fit, p.Name)
		}
	}
	if m.peer.DiskError() != nil {
		delete(fit, m.cfg.Name)
	}
	return fit
}

// serving tells whether nodes are to be sent to a head.
func (m *member) serving(head string) bool {
	h, ok := m.machine.View().Head(head)
	return ok && !h.Drained && !h.Witness && m.live(head)
}

// able tells whether a head could take a duty over.
func (m *member) able(head string) bool { return m.serving(head) && m.fit()[head] }

// proven tells whether a head has answered, and hears of a head that leads. One whose
// other ports are closed, or whose clock refuses all certificates, is alive to gossip.
func proven(head string, answers map[string]api.HeadStatus) bool {
	s, answered := answers[head]
	return answered && s.CutOff == 0
}

// voters names the heads that have a vote, as far as this one knows.
func (m *member) voters() []string {
	names := []string{}
	servers, err := m.peer.Servers()
	if err != nil {
		return names
	}
	for _, s := range servers {
		if s.Voter {
			names = append(names, s.Name)
		}
	}
	return names
}

// votes are the voters by whether their vote counts for something now.
type votes struct {
	all   []string
	there []string // fit
	unfit []string // alive, and cannot write to disk
	away  []string
}

// votes sorts the voters.
func (m *member) votes() (v votes) {
	fit, alive := m.fit(), m.alive()
	v.all = m.voters()
	for _, name := range v.all {
		switch {
		case fit[name]:
			v.there = append(v.there, name)
		case alive[name]:
			v.unfit = append(v.unfit, name)
		default:
			v.away = append(v.away, name)
		}
	}
	return v
}

// tooFew tells whether the voters that are there are no majority.
func (v votes) tooFew() bool { return len(v.all) > 0 && len(v.there) <= len(v.all)/2 }

// tooFew tells whether the voters that are fit are no majority.
func (m *member) tooFew() bool { return m.votes().tooFew() }

// outvoted tells whether this head has heard of no leader for a while and sees too
// few voters that could agree on one: waiting is of no use then.
func (m *member) outvoted() bool { return m.peer.LastContact() >= cutOff && m.tooFew() }

// quorum says which voters are missing, and since when.
func (m *member) quorum() string {
	members := map[string]consensus.Member{}
	for _, p := range m.peer.Members() {
		members[p.Name] = p
	}
	v := m.votes()
	var unfit, away []string
	for _, name := range v.unfit {
		unfit = append(unfit, fmt.Sprintf("head '%s' cannot write its disk", name))
	}
	for _, name := range v.away {
		if p, seen := members[name]; seen {
			away = append(away, fmt.Sprintf("%s since %s", name, clock(p.Since)))
		} else {
			away = append(away, name+" not seen since this head started")
		}
	}
	if len(away)+len(unfit) == 0 {
		return fmt.Sprintf("the %d heads have not agreed on a leader: try again in a few seconds", len(v.all))
	}
	var missing []string
	if len(away) > 0 {
		missing = append(missing, fmt.Sprintf("%d of %d heads unreachable: %s", len(away), len(v.all), strings.Join(away, ", ")))
	}
	text := strings.Join(append(missing, unfit...), "; ")
	switch {
	case !v.tooFew():
		return text + "; the others are choosing a leader: try again in a few seconds"
	case 2*(len(v.all)-len(away)) > len(v.all):
		return text + "; nodes that are known go on booting; make room there, or mend the disk"
	}
	return text + "; nodes that are known go on booting; if these heads will never come back, see `luna cluster recover --help`"
}

// without tells why the others could not decide anything without a head: one that goes
// down for a while, or for good. Only who has proven that it can counts.
func (v votes) without(name string, forGood bool, answers map[string]api.HeadStatus) []string {
	if !slices.Contains(v.all, name) {
		return nil
	}
	others := func(names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(voter string) bool { return voter == name })
	}
	votes, there, unfit, away := len(v.all), 0, others(v.unfit), others(v.away)
	var silent []string
	for _, voter := range others(v.there) {
		if proven(voter, answers) {
			there++
		} else {
			silent = append(silent, voter)
		}
	}
	if forGood {
		votes--
	}
	need := votes/2 + 1
	if there >= need || votes == 0 && !forGood {
		return nil
	}
	if votes == 0 || votes == 1 && !forGood {
		return []string{"it is the only head that votes: without it nothing can be changed"}
	}
	text := fmt.Sprintf("without it %d of %d voters are there, and changes need %d", there, votes, need)
	var missing []string
	if len(away) > 0 {
		missing = append(missing, fmt.Sprintf("%s %s away", inventory.CompressHostlist(away), areOr(len(away))))
	}
	if len(unfit) > 0 {
		missing = append(missing, inventory.CompressHostlist(unfit)+" cannot write to disk")
	}
	for _, voter := range silent {
		if s, answered := answers[voter]; answered {
			missing = append(missing, fmt.Sprintf("%s hears of no head that leads for %.0f s", voter, s.CutOff))
		} else {
			missing = append(missing, voter+" is alive, but does not answer")
		}
	}
	if len(missing) > 0 {
		text += " (" + strings.Join(missing, ", ") + ")"
	}
	return []string{text}
}

func areOr(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// clock writes a moment as people say it: the time of day, with the day where that was
// not today.
func clock(t time.Time) string {
	if now := time.Now(); t.YearDay() != now.YearDay() || t.Year() != now.Year() {
		return t.Format("2006-01-02 15:04:05")
	}
	return t.Format("15:04:05")
}
