package test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// TestREADME: whoever types the lines under "Use it" in the README, in their order
// and as they stand, has a cluster that boots node001.
func TestREADME(t *testing.T) {
	l := labtest.New(t, "readme")
	bin, err := site.Bin()
	must(t, err)
	text, err := os.ReadFile(filepath.Join(bin, "..", "README.md"))
	must(t, err)
	lines := commands(t, string(text), "## Use it")
	ctx := labtest.Context(t, 10*time.Minute)
	tree := labtest.Tree(t)
	programs := filepath.Join(l.Dir(), "bin") // where what a shell hides cannot hide it
	shell(t, "", `cp -r "$1" "$2"`, bin, programs)

	var at *terminal
	token := ""
	for _, line := range lines {
		if name, bind, ok := agentOf(line); ok {
			host, err := l.Host(ctx, name, netip.PrefixFrom(netip.MustParseAddr(bind), site.Network.Bits()))
			must(t, err)
			at = openTerminal(ctx, t, l, host, programs, tree)
		}
		out := at.run(t, strings.ReplaceAll(line, "TOKEN", token))
		switch {
		case strings.HasPrefix(line, "luna agent"):
			// Who types needs longer than the agent to open its socket.
			must(t, site.Until(ctx, 20*time.Second, "the agent answers", func() error { return at.answers(ctx) }))
		case strings.HasPrefix(line, "luna head invite"):
			token = out
		}
	}
	n, err := l.Node(ctx, lab.NodeConfig{Name: "node001", MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}})
	must(t, err)
	root, err := installOn(ctx, &site.Site{Lab: l, Bin: bin}, n)
	must(t, err)
	must(t, site.SameTree(tree, root, writtenByInstaller...))
	at.run(t, "until luna node show node001 | grep install.success; do sleep 0.1; done") // the report may be on its way
}

// commands gives the lines of code in a section of a text in Markdown, without
// what is said about them.
func commands(t *testing.T, markdown, section string) []string {
	t.Helper()
	_, text, found := strings.Cut(markdown, "\n"+section+"\n")
	if !found {
		t.Fatalf("there is no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var lines []string
	for line := range strings.Lines(text) {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			code, _, _ = strings.Cut(code, " #")
			lines = append(lines, strings.TrimSpace(code))
		}
	}
	if len(lines) == 0 {
		t.Fatalf("section %q has no commands", section)
	}
	return lines
}

// agentOf gives name and address of the head whose agent the line starts.
func agentOf(line string) (name, bind string, ok bool) {
	_, err := fmt.Sscanf(line, "luna agent --name %s --bind %s &", &name, &bind)
	return name, bind, err == nil
}

// terminal is a shell of root on a head, to which everything looks as on a machine
// of its own where nothing of Luna is installed but its programs.
type terminal struct {
	name string
	keys io.Writer
	out  *bufio.Scanner
	log  string
	pid  int
}

// ownWorld hides what the machine has in the places of Luna, and puts the tree
// where the README has it. All of it goes with the shell.
const ownWorld = `
for dir in /run /var/lib /opt; do mount -t tmpfs tmpfs $dir; done
mkdir -p /opt/luna/os/compute
mount --bind "$1" /opt/luna/os/compute
exec sh
`

func openTerminal(ctx context.Context, t *testing.T, l *lab.Lab, host *lab.Host, programs, tree string) *terminal {
	t.Helper()
	home := filepath.Join(l.Dir(), host.Name()+"-home")
	must(t, os.Mkdir(home, 0o700))
	cmd := host.Command(ctx, "unshare", "--mount", "--propagation", "private", "sh", "-euc", ownWorld, "sh", tree)
	cmd.Env = append(os.Environ(), "HOME="+home, "PATH="+programs+":"+os.Getenv("PATH"))
	term := &terminal{name: host.Name(), log: filepath.Join(l.Dir(), host.Name()+"-shell.log")}
	log, err := os.Create(term.log)
	must(t, err)
	defer log.Close() // the shell has its own copy
	cmd.Stderr = log
	term.keys, err = cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	term.out = bufio.NewScanner(out)
	must(t, cmd.Start())
	term.pid = cmd.Process.Pid
	t.Cleanup(func() { // the lab kills what is on the host
		must(t, l.Close())
		_ = cmd.Wait() // killed
	})
	return term
}

// run types a line, and gives what its command printed on stdout; the test ends if
// its exit code is not 0.
func (term *terminal) run(t *testing.T, line string) string {
	t.Helper()
	const end = "-- the code is "
	start := time.Now()
	_, err := fmt.Fprintf(term.keys, "%s\necho '%s'$?\n", line, end)
	must(t, err)
	var printed []string
	for term.out.Scan() {
		code, ended := strings.CutPrefix(term.out.Text(), end)
		if !ended {
			printed = append(printed, term.out.Text())
			continue
		}
		t.Logf("%5.1f s  %s# %s", time.Since(start).Seconds(), term.name, line)
		if code != "0" {
			t.Fatalf("%s# %s: exit code %s, see %s", term.name, line, code, term.log)
		}
		return strings.Join(printed, "\n")
	}
	t.Fatalf("%s# %s: the shell has ended: %v", term.name, line, term.out.Err())
	return ""
}

// answers tells whether an agent listens on the standard socket of this world.
func (term *terminal) answers(ctx context.Context) error {
	socket := fmt.Sprintf("/proc/%d/root/run/luna/luna.sock", term.pid)
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	return conn.Close()
}
