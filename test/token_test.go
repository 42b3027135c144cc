package test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/site"
)

// TestTokens: who has a good token becomes a head, once; nobody else does.
func TestTokens(t *testing.T) {
	s := newMesh(t, "tokens", 2)
	h1, h2 := s.Heads[0], s.Heads[1]
	fresh := addHead(t, s, "h3", "10.30.255.252")
	other := &site.Site{Lab: s.Lab, Bin: s.Bin}
	x1 := addHead(t, other, "x1", "10.30.255.101")
	must(t, other.Mesh(t.Context()))
	late := addHead(t, other, "h4", "10.30.255.251")
	luna(t, h1, "network", "add", "-n", "cluster", "-N", "10.30.0.0", "-P", "16")
	before, err := everything(t.Context(), h1)
	must(t, err)

	join := func(h, at *site.Head, token string) error {
		_, err := h.Luna(t.Context(), "join", at.Addr.String(), "--token", token)
		return err
	}
	refuse := func(h, at *site.Head, token string, code int, words string) func(*testing.T) {
		return func(t *testing.T) {
			refused(t, join(h, at, token), code, words)
			noMember(t, h)
			unchanged(t, h1, before)
		}
	}
	good := luna(t, h1, "head", "invite")
	short := luna(t, h1, "head", "invite", "--ttl", "1s")
	expires := time.Now().Add(time.Second)
	t.Run("garbage", refuse(fresh, h1, "hello", 255, "this is no join token"))
	t.Run("cut off", refuse(fresh, h1, good[:len(good)-10], 255, "damaged"))
	t.Run("another cluster's", refuse(fresh, h1, luna(t, x1, "head", "invite"), 1, "another cluster"))
	t.Run("at a head of another cluster", refuse(fresh, x1, good, 1, "another cluster"))
	t.Run("made up", refuse(fresh, h1, madeUp(good), 1, "the token is unknown to this cluster"))
	t.Run("where nobody listens", refuse(fresh, late, good, 1, "cannot join at 10.30.255.251:7051"))
	must(t, site.Until(t.Context(), 5*time.Second, "the token has expired", func() error {
		if time.Now().Before(expires) {
			return errors.New("not yet")
		}
		return nil
	}))
	t.Run("expired", refuse(fresh, h2, short, 1, "the token has expired"))
	t.Run("by a member", func(t *testing.T) { refused(t, join(h2, h1, good), 1, "already a member") })

	must(t, join(fresh, h2, good))
	must(t, s.Settle(t.Context()))
	if before, err = everything(t.Context(), h1); err != nil {
		t.Fatal(err)
	}
	t.Run("used twice", refuse(late, h1, good, 1, "the token was used already, by head 'h3'"))
	if got := names(t, h1); got != "h1 h2 h3" {
		t.Errorf("the heads are %s after all that, want h1 h2 h3", got)
	}
}

// addHead adds a head whose agent runs and is no member yet.
func addHead(t *testing.T, s *site.Site, name, address string) *site.Head {
	t.Helper()
	h, err := s.Add(t.Context(), name, netip.MustParseAddr(address))
	must(t, err)
	must(t, h.Start(t.Context()))
	return h
}

// madeUp is a token with the fingerprint of a good one, and another secret.
func madeUp(token string) string {
	parts := strings.Split(token, ".")
	parts[2] = strings.Repeat("A", len(parts[2]))
	return strings.Join(parts, ".")
}

// noMember makes sure that the head belongs to no cluster.
func noMember(t *testing.T, h *site.Head) {
	t.Helper()
	_, err := h.Luna(t.Context(), "head", "list")
	var failure *site.Failure
	if !errors.As(err, &failure) || failure.Code != 255 || !strings.Contains(failure.Stderr, "does not exist") ||
		!strings.Contains(failure.Stderr, "belongs to no cluster yet") {
		t.Errorf("%s: %v", h.Name, err)
	}
	if _, err := os.Stat(filepath.Join(h.Dir(), "identity.json")); err == nil {
		t.Errorf("%s has an identity", h.Name)
	}
}

// unchanged makes sure that the head knows what it knew before.
func unchanged(t *testing.T, h *site.Head, before string) {
	t.Helper()
	after, err := everything(t.Context(), h)
	must(t, err)
	if after != before {
		t.Errorf("that changed something; before:\n%s\nafter:\n%s", before, after)
	}
}

// names gives the names of the heads that are members and alive, as one sees them.
func names(t *testing.T, asked *site.Head) string {
	t.Helper()
	var list []site.HeadStatus
	must(t, asked.JSON(t.Context(), &list, "head", "list"))
	var all []string
	for _, h := range list {
		if h.State != "alive" || h.Role != "voter" {
			t.Errorf("%s sees %+v", asked.Name, h)
		}
		all = append(all, h.Name)
	}
	return strings.Join(all, " ")
}
