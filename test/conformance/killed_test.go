package conformance

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// rounds is how many clients of each kind are killed.
const rounds = 12

// TestKilledClient: a luna that dies in the middle of a write leaves all of it or nothing.
func TestKilledClient(t *testing.T) {
	d := newDesk(t, "killed").with(t)
	d.prepare(fixture)
	d.ok("luna group add -n big -o compute -N cluster")
	t.Run("NodeAdd", func(t *testing.T) { killedNodeAdd(d.with(t)) })
	t.Run("GroupChange", func(t *testing.T) { killedGroupChange(d.with(t)) })
	t.Run("Apply", func(t *testing.T) { killedApply(d.with(t)) })
}

// kill runs a line and kills it after a part of the time that it takes, or lets it just end.
// It gives whether it ended before that.
func (d *desk) kill(line string, takes time.Duration) (ended bool) {
	d.Helper()
	cmd := d.head.Command(d.Context(), "sh", "-c", "exec "+line)
	cmd.Env = d.env
	d.must(cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			d.Fatalf("%s: %v", line, err)
		}
		return true
	case <-time.After(rand.N(takes * 5 / 4)):
	}
	_ = cmd.Process.Kill() // it may have ended
	<-done
	return false
}

// settled waits until nothing comes any more of what a dead client had sent.
func (d *desk) settled(look func() string) string {
	d.Helper()
	was := look()
	for range 100 {
		select {
		case <-d.Context().Done():
		case <-time.After(50 * time.Millisecond):
		}
		is := look()
		if is == was {
			return is
		}
		was = is
	}
	d.Fatal("the state does not come to rest")
	return ""
}

func killedNodeAdd(d *desk) {
	const many = 500
	start := time.Now()
	d.ok(fmt.Sprintf("luna node add -g big -n first[001-%d] >/dev/null", many), "luna node delete first[001-"+fmt.Sprint(many)+"]")
	takes := time.Since(start)
	made := 0
	for i := range rounds {
		prefix := fmt.Sprintf("r%dn", i)
		line := fmt.Sprintf("luna node add -g big -n %s[001-%d]", prefix, many)
		ended := d.kill(line, takes)
		n := d.settled(func() string {
			return fmt.Sprint(strings.Count(d.ok("luna node list -o json"), `"name": "`+prefix))
		})
		switch {
		case n == fmt.Sprint(many):
			made++
			d.ok(fmt.Sprintf("luna node delete %s[001-%d]", prefix, many))
		case n != "0" || ended:
			d.Errorf("%s, killed (or at its end: %v), made %s nodes", line, ended, n)
		}
	}
	d.Logf("of %d commands that take up to %s, %d were done", rounds, takes, made)
	left := len(decode[[]node](d, "luna node list -o json"))
	if left%many != 0 {
		d.Errorf("%d nodes are left, which is no number of whole commands", left)
	}
	d.prints(fmt.Sprintln(left), "luna network show cluster -r | grep -c ':r[0-9]*n' || true") // an address each, and no other
}

func killedGroupChange(d *desk) {
	file := filepath.Join(d.path("D"), "script")
	write := func(i int) []byte {
		text := append(fmt.Appendf(nil, "# version %d\n", i), oddScript(1<<20)...)
		d.must(os.WriteFile(file, text, 0o600))
		return text
	}
	line := "luna group change compute --part < $D/script"
	whole := [][]byte{write(0)} // on a busy machine the write of a client may come long after its death
	start := time.Now()
	d.ok(line)
	takes := time.Since(start)
	made := 0
	for i := range rounds {
		next := write(i + 1)
		whole = append(whole, next)
		ended := d.kill(line, takes)
		got := []byte(d.settled(func() string { return d.ok("luna group show compute --part") }))
		switch {
		case bytes.Equal(got, next):
			made++
		case ended || !slices.ContainsFunc(whole, func(w []byte) bool { return bytes.Equal(got, w) }):
			d.Fatalf("round %d (at its end: %v): the script has %d bytes and is none that was given", i, ended, len(got))
		}
	}
	d.Logf("of %d commands that take %s, %d were done", rounds, takes, made)
}

func killedApply(d *desk) {
	const many = 2000
	d.ok(fmt.Sprintf("luna node add -g big -n node[0001-%d] >/dev/null", many))
	write := func(i int) {
		var b strings.Builder
		b.WriteString("luna: 1\nnodes:\n")
		for n := range many {
			fmt.Fprintf(&b, "  node%04d:\n    port: \"%d\"\n    comment: |-\n      round %d\n", n+1, i, i)
		}
		d.must(os.WriteFile(filepath.Join(d.path("D"), "all.yaml"), []byte(b.String()), 0o600))
	}
	ports := func() string {
		seen := map[string]int{}
		for _, n := range decode[[]struct{ Port *string }](d, "luna node list -o json") {
			if n.Port != nil {
				seen[*n.Port]++
			}
		}
		return fmt.Sprint(seen)
	}
	line := "luna apply -f $D/all.yaml >/dev/null"
	write(1000)
	start := time.Now()
	d.ok(line)
	takes := time.Since(start)
	made := 0
	whole := map[string]bool{ports(): true}
	for i := range rounds {
		write(i)
		next := fmt.Sprint(map[string]int{fmt.Sprint(i): many})
		whole[next] = true
		ended := d.kill(line, takes)
		got := d.settled(ports)
		switch {
		case got == next:
			made++
		case ended || !whole[got]:
			d.Fatalf("round %d (at its end: %v): the ports are %s", i, ended, got)
		}
	}
	d.Logf("of %d commands that take %s, %d were done", rounds, takes, made)
}
