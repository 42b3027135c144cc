package test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// harm does something to a file of a head that is stopped.
type harm struct {
	name string
	file string // a pattern below the data directory
	do   func(path string) error
	want outcome
}

// outcome is what a head may make of the harm.
type outcome int

const (
	either  outcome = iota // refuse to start, or have everything
	mends                  // have everything
	refuses                // what is lost cannot be told, or not be had from others without risk
)

// flipAt changes a bit at a part of the file's length, from 0 to 1.
func flipAt(part float64) func(string) error {
	return func(path string) error {
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			return errors.Join(err, errors.New(path+" cannot be flipped"))
		}
		b[min(int(part*float64(len(b))), len(b)-1)] ^= 0x10
		return os.WriteFile(path, b, 0o600)
	}
}

// flipIn changes the first character after these.
func flipIn(after string) func(string) error {
	return func(path string) error {
		b, err := os.ReadFile(path)
		i := bytes.Index(b, []byte(after))
		if err != nil || i < 0 {
			return errors.Join(err, fmt.Errorf("%s has no %q", path, after))
		}
		b[i+len(after)] ^= 3 // another letter or digit
		return os.WriteFile(path, b, 0o600)
	}
}

func cutAt(part float64) func(string) error {
	return func(path string) error {
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, int64(part*float64(st.Size())))
	}
}

func nonsense(path string) error {
	return os.WriteFile(path, bytes.Repeat([]byte("what is this? "), 1000), 0o600)
}

// harms is what befalls a head's files. Every byte of the raft store is harmed by
// package consensus' own tests; here it is seen what an administrator sees.
func harms() []harm {
	all := []harm{
		{"cut", "raft/raft.db", cutAt(0.5), either},
		{"emptied", "raft/raft.db", cutAt(0), refuses},
		{"missing", "raft/raft.db", os.Remove, refuses},
		{"garbage", "raft/raft.db", nonsense, refuses},
		{"flipped", "raft/applied", flipAt(0.5), either},
		{"missing", "raft/applied", os.Remove, either},
		{"missing", "raft", os.RemoveAll, refuses},
		{"flipped", "raft/snapshots/*/state.bin", flipAt(0.5), either},
		{"flipped", "raft/snapshots/*/meta.json", flipAt(0.5), either},
		{"cut", "identity.json", cutAt(0.5), refuses},
		{"emptied", "identity.json", cutAt(0), refuses},
		{"garbage", "identity.json", nonsense, refuses},
		{"another key", "identity.json", flipIn("\"gossip_key\": \""), refuses},
		{"another certificate", "identity.json", flipIn("BEGIN CERTIFICATE-----\\n"), refuses},
		{"another address", "identity.json", flipIn("\"address\": \""), either},
		{"missing", "artifacts", os.RemoveAll, mends},
		{"cut", "artifacts/*", cutAt(0.5), mends},
		{"flipped", "artifacts/*", flipAt(0.5), mends},
	}
	random := rand.New(rand.NewPCG(4, uint64(time.Now().UnixNano())))
	samples := 3
	if os.Getenv("LUNA_SOAK") != "" {
		samples = 60
	}
	for range samples {
		part := random.Float64()
		all = append(all, harm{fmt.Sprintf("flipped at %.4f", part), "raft/raft.db", flipAt(part), either})
	}
	return all
}

// TestDamage: whatever of a head's files is damaged while it is down, it says which one
// and what to do, or is as it was; the other heads notice nothing but that it is away.
func TestDamage(t *testing.T) {
	s := newMesh(t, "damage", 3)
	labtest.Context(t, 20*time.Minute)
	first, victim := s.Heads[0], s.Heads[2]
	luna(t, first, "network", "add", "-n", "cluster", "-N", "10.30.0.0", "-P", "16")
	tree := kernelTree(t, s.Lab)
	shell(t, tree, "head -c 1M /dev/urandom >boot/initrd.img-6.1.0; head -c 8M /dev/urandom >incompressible")
	addGroup(t, first, tree)
	luna(t, first, "node", "add", "-g", "compute", "-n", "node[001-200]")
	luna(t, first, "osimage", "pack", "compute", "--copy_boot")
	allHold(t, s)

	// A snapshot is made at the second start.
	must(t, victim.Agent.Stop(syscall.SIGTERM, 20*time.Second))
	must(t, victim.Start(t.Context()))
	settled(t, s)
	for _, h := range harms() {
		t.Run(strings.ReplaceAll(h.file, "/", "-")+" "+h.name, func(t *testing.T) { damage(t, s, victim, h) })
	}
}

// allHold waits until every head holds every version of the osimage.
func allHold(t *testing.T, s *site.Site) {
	t.Helper()
	must(t, site.Until(t.Context(), time.Minute, "all heads hold the image", func() error {
		var o struct {
			Versions []struct {
				ID    string
				Heads []string
			}
		}
		if err := s.Heads[0].JSON(t.Context(), &o, "osimage", "show", "compute"); err != nil {
			return err
		}
		for _, v := range o.Versions {
			if len(v.Heads) < len(s.Heads) {
				return fmt.Errorf("%s is held by %v", v.ID, v.Heads)
			}
		}
		return nil
	}))
}

func damage(t *testing.T, s *site.Site, victim *site.Head, h harm) {
	if !victim.Agent.Running() { // the case before this one failed
		joinAnew(t, s, victim, "")
		settled(t, s)
		allHold(t, s)
	}
	if strings.Contains(h.file, "snapshots") {
		victim.Agent.Kill9() // it leaves a snapshot when it starts
		must(t, begins(t, victim))
		settled(t, s)
	}
	pid := []int{s.Heads[0].Agent.Pid(), s.Heads[1].Agent.Pid()}
	w := write(t, s.Heads[1])
	victim.Agent.Kill9()
	found, err := filepath.Glob(filepath.Join(victim.Dir(), h.file))
	must(t, err)
	if len(found) == 0 {
		t.Fatalf("there is no %s", h.file)
	}
	for _, path := range found {
		must(t, h.do(path))
	}
	switch err := begins(t, victim); {
	case err != nil:
		refusesToStart(t, s, victim, h, err)
	case h.want == refuses:
		t.Error("it starts, where it must not")
		must(t, victim.Agent.Stop(syscall.SIGTERM, 20*time.Second))
		joinAnew(t, s, victim, "")
	default:
		t.Log("it starts")
	}
	settled(t, s)
	must(t, site.Until(t.Context(), time.Minute, "the artifacts are whole", func() error { return wholeArtifacts(victim) }))
	allHold(t, s)
	w.end(t, h.file+" "+h.name)
	same(t, s)
	for i, p := range pid {
		alive(t, s.Heads[i], p)
	}
}

var wayOut = regexp.MustCompile(`luna (head (?:replace|remove) \S+(?: --force)?)`)

// refusesToStart holds the end of an agent to what is promised, and does what it says.
func refusesToStart(t *testing.T, s *site.Site, victim *site.Head, h harm, err error) {
	t.Helper()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 78 {
		t.Errorf("it ends with %v: want exit code 78, with which it is not started again", err)
	}
	if h.want == mends {
		t.Error("it refuses to start, where it need not")
	}
	words := err.Error() // with the last lines of the log
	t.Logf("it refuses: %s", words[max(0, strings.LastIndex(words, "ERROR")):])
	file, _, _ := strings.Cut(h.file, "/*")
	for _, want := range []string{filepath.Join(victim.Dir(), file), "join"} {
		if !strings.Contains(words, want) {
			t.Errorf("it does not name %q", want)
		}
	}
	command := wayOut.FindStringSubmatch(words)
	if command == nil {
		t.Error("it does not say which command to use on another head")
		command = []string{"", ""}
	}
	joinAnew(t, s, victim, command[1])
}

// joinAnew lets a head whose agent has ended begin anew: that command on another head,
// which may give a token, an empty directory, and a join.
func joinAnew(t *testing.T, s *site.Site, victim *site.Head, command string) {
	t.Helper()
	command = strings.Trim(command, "`'\",;:.")
	if command == "" {
		command = "head replace " + victim.Name + " --force"
	}
	first, token := s.Heads[0], ""
	// The others take a moment to see that it is away.
	must(t, site.Until(t.Context(), time.Minute, command, func() (err error) {
		token, err = first.Luna(t.Context(), strings.Fields(command)...)
		return err
	}))
	if !strings.HasPrefix(command, "head replace") {
		token = luna(t, first, "head", "invite")
	}
	shell(t, victim.Dir(), "find . -mindepth 1 -delete")
	must(t, victim.Start(t.Context()))
	luna(t, victim, "join", first.Addr.String(), "--token", token)
}

// TestKilledWhileItWrites: of an image that was being packed, or fetched, when its head was
// killed, no part is taken for the whole.
func TestKilledWhileItWrites(t *testing.T) {
	s := newMesh(t, "halfwritten", 3)
	h := s.Heads
	luna(t, h[0], "network", "add", "-n", "cluster", "-N", "10.30.0.0", "-P", "16")
	tree := kernelTree(t, s.Lab)
	shell(t, tree, "head -c 1M /dev/urandom >boot/initrd.img-6.1.0")
	addGroup(t, h[0], tree)
	halves := 0
	for i := range 6 {
		victim := h[i%2] // who packs, and one who fetches
		shell(t, tree, "head -c 96M /dev/urandom >incompressible")
		packed := make(chan error, 1)
		go func() {
			_, err := h[0].Luna(t.Context(), "osimage", "pack", "compute", "--copy_boot")
			packed <- err
		}()
		half := filepath.Join(victim.Dir(), "artifacts", "draft-*")
		wants := int64(1+i) * 12 << 20 // bytes of a draft, when it is killed
		must(t, site.Until(t.Context(), 2*time.Minute, victim.Name+" writes an image", func() error {
			drafts, _ := filepath.Glob(half) // the pattern is a good one
			for _, d := range drafts {
				if st, err := os.Stat(d); err == nil && st.Sys().(*syscall.Stat_t).Blocks*512 >= wants {
					return nil
				}
			}
			return fmt.Errorf("%d drafts", len(drafts))
		}))
		victim.Agent.Kill9()
		err := <-packed
		drafts, _ := filepath.Glob(half)
		halves += len(drafts)
		t.Logf("%s is killed with %d drafts at %d MiB; the pack ends with %v", victim.Name, len(drafts), wants>>20, err)
		must(t, wholeArtifacts(victim))
		must(t, begins(t, victim))
		if left, _ := filepath.Glob(half); victim == h[0] && len(left) > 0 {
			t.Errorf("there is still %v", left)
		}
		settled(t, s)
	}
	if halves == 0 {
		t.Error("nothing was half written when its head was killed: this proves nothing")
	}
	luna(t, h[0], "osimage", "pack", "compute", "--copy_boot")
	allHold(t, s)
	for _, head := range h {
		must(t, wholeArtifacts(head))
	}
}
