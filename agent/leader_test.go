package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/consensus"
)

// TestLongAway: the vote of a head that is away is kept for it for ten minutes, whether
// it fell silent or was stopped, and whether this head ever met it.
func TestLongAway(t *testing.T) {
	now := time.Now()
	ago := func(minutes int) time.Time { return now.Add(-time.Duration(minutes) * time.Minute) }
	voters := []consensus.Server{{Name: "h1"}, {Name: "h2"}}
	h1 := consensus.Member{Name: "h1", State: consensus.Alive, Since: ago(60)}
	for _, tc := range []struct {
		name    string
		members []consensus.Member
		began   time.Time
		want    string
	}{
		{"all are there", []consensus.Member{h1, {Name: "h2", State: consensus.Alive, Since: ago(60)}}, ago(60), ""},
		{"one fell silent just now", []consensus.Member{h1, {Name: "h2", State: consensus.Failed, Since: ago(9)}}, ago(60), ""},
		{"one fell silent long ago", []consensus.Member{h1, {Name: "h2", State: consensus.Failed, Since: ago(11)}}, ago(1), "h2"},
		{"one was stopped just now", []consensus.Member{h1, {Name: "h2", State: consensus.Left, Since: ago(9)}}, ago(60), ""},
		{"one was stopped long ago", []consensus.Member{h1, {Name: "h2", State: consensus.Left, Since: ago(11)}}, ago(60), "h2"},
		{"one was never met by a new leader", []consensus.Member{h1}, ago(9), ""},
		{"one was never met by an old leader", []consensus.Member{h1}, ago(11), "h2"},
		{"one cannot write, and comes back", []consensus.Member{h1, {Name: "h2", State: consensus.Alive, Since: ago(60), Unfit: true}}, ago(60), ""},
	} {
		if got := longAway(voters, tc.members, tc.began, now); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// TestWithout: whether the others can go on without a head is for those to prove that
// would have to.
func TestWithout(t *testing.T) {
	good, cut := api.HeadStatus{}, api.HeadStatus{CutOff: 7}
	three := []string{"h1", "h2", "h3"}
	for _, tc := range []struct {
		name    string
		votes   votes
		answers map[string]api.HeadStatus
		forGood bool
		want    string // "" where they can
	}{
		{"all answer", votes{all: three, there: three}, map[string]api.HeadStatus{"h1": good, "h2": good, "h3": good}, false, ""},
		{"it need not answer itself", votes{all: three, there: three}, map[string]api.HeadStatus{"h1": good, "h2": good}, false, ""},
		{"one does not answer", votes{all: three, there: three}, map[string]api.HeadStatus{"h1": good, "h3": good}, false, "changes need 2 (h2 is alive, but does not answer)"},
		{"one hears of no leader", votes{all: three, there: three}, map[string]api.HeadStatus{"h1": good, "h2": cut, "h3": good}, true, "changes need 2 (h2 hears of no head that leads for 7 s)"},
		{"one is away", votes{all: three, there: []string{"h1", "h3"}, away: []string{"h2"}}, map[string]api.HeadStatus{"h1": good, "h3": good}, false, "changes need 2 (h2 is away)"},
		{"one cannot write", votes{all: three, there: []string{"h1", "h3"}, unfit: []string{"h2"}}, map[string]api.HeadStatus{"h1": good, "h2": good, "h3": good}, false, "changes need 2 (h2 cannot write to disk)"},
		{"it has no vote", votes{all: three[:2], there: three[:1], away: three[1:2]}, nil, false, ""},
	} {
		got := strings.Join(tc.votes.without("h3", tc.forGood, tc.answers), "; ")
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
