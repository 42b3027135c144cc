package cli

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// needProgram fails or skips a test for which a program is missing.
func needProgram(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil && os.Geteuid() != 0 {
			t.Skipf("%s is missing: run make deps as root", p)
		} else if err != nil {
			t.Fatalf("%s is missing: run make deps", p)
		}
	}
}

// terminal is an interactive shell on a pseudo-terminal, in which Ctrl-U empties
// the line and Ctrl-G shows it.
type terminal struct {
	t    *testing.T
	in   io.WriteCloser
	out  io.Reader
	said bytes.Buffer
	seen int
}

const (
	bashFramework = "/usr/share/bash-completion/bash_completion"
	bashrc        = "source " + bashFramework + `
source <(luna completion bash)
bind 'set bell-style none'; bind 'set completion-query-items 0'; bind 'set page-completions off'; bind 'set enable-bracketed-paste off'
bind -x '"\C-g": printf "\nLINE<%s>\n" "$READLINE_LINE"'
PS1='READY '
`
	zshrc = `
autoload -Uz compinit && compinit -u -D
source <(luna completion zsh)
setopt no_beep no_list_beep no_always_last_prompt
show() { print -r -- $'\n'"LINE<$BUFFER>" }
zle -N show
bindkey '^G' show '^U' kill-whole-line
PS1='READY '
`
)

// quickExit keeps a program with the race detector from sleeping for a second at
// its end.
const quickExit = "GORACE=atexit_sleep_ms=0"

// startShell starts a shell that reads what it does first from a file of that
// name in an empty home.
func startShell(t *testing.T, command, rc, text string) *terminal {
	t.Helper()
	needProgram(t, "script", strings.Fields(command)[0])
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, rc), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "script", "-q", "-e", "-c", command, "/dev/null")
	cmd.Env = append(os.Environ(), "HOME="+home, "ZDOTDIR="+home, "TERM=dumb", "HISTFILE=", "INPUTRC=/dev/null", quickExit)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
		kill.Stop()
	})
	term := &terminal{t: t, in: in, out: out}
	term.expect(regexp.MustCompile(`READY `))
	return term
}

// expect reads until the terminal shows what it had not shown before.
func (term *terminal) expect(want *regexp.Regexp) []string {
	term.t.Helper()
	buf := make([]byte, 4096)
	for {
		if at := want.FindStringSubmatchIndex(term.said.String()[term.seen:]); at != nil {
			found := want.FindStringSubmatch(term.said.String()[term.seen:])
			term.seen += at[1]
			return found
		}
		n, err := term.out.Read(buf)
		term.said.Write(buf[:n])
		if err != nil {
			term.t.Fatalf("the terminal never showed %v: %v; it showed:\n%s", want, err, term.said.String())
		}
	}
}

// tab types a line and the key, and gives the line that becomes of it.
func (term *terminal) tab(line string) string {
	term.t.Helper()
	if _, err := io.WriteString(term.in, "\x15"+line+"\t\x07"); err != nil {
		term.t.Fatal(err)
	}
	return term.expect(regexp.MustCompile(`LINE<([^>]*)>`))[1]
}

// A person at a real shell presses the key.
func TestShellsComplete(t *testing.T) {
	if _, err := os.Stat(bashFramework); err != nil && os.Geteuid() == 0 {
		t.Fatalf("%v: run make deps", err)
	} else if err != nil {
		t.Skipf("%v: run make deps as root", err)
	}
	namedSite(t)
	want := map[string]string{
		"luna ot":                                  "luna otherdev ",
		"luna node sh":                             "luna node show ",
		"luna node show logi":                      "luna node show login1 ",
		"luna node show no":                        "luna node show node00",
		"luna node show %co":                       "luna node show %compute ",
		"luna node show @g":                        "luna node show @gpu ",
		"luna node show node001,lo":                "luna node show node001,login1 ",
		"luna node show node001,%lo":               "luna node show node001,%login ",
		"luna node add --group=lo":                 "luna node add --group=login ",
		"luna node add --group lo":                 "luna node add --group login ",
		"luna group add -bn ip":                    "luna group add -bn ipmi ",
		"luna group change compute -i BO":          "luna group change compute -i BOOTIF ",
		"luna group change compute -i BMC --dn i":  "luna group change compute -i BMC --dn ipmi ",
		"luna osimage show compute -o y":           "luna osimage show compute -o yaml ",
		"luna osimage add -n new --path /usr/sh":   "luna osimage add -n new --path /usr/share/",
		"luna node change node001 --servi":         "luna node change node001 --service ",
		"luna node show node001,login1,node003,lo": "luna node show node001,login1,node003,login1 ",
		"luna node show node[":                     "luna node show node[",
		"lpower login":                             "lpower login1 ",
		"lpower node001 st":                        "lpower node001 status ",
		"lpower @ra":                               "lpower @rack1 ",
		"lchroot cen":                              "lchroot centos ",
	}
	for shell, term := range map[string]*terminal{
		"bash": startShell(t, "bash --noprofile -i", ".bashrc", bashrc),
		"zsh":  startShell(t, "zsh -d -i", ".zshrc", zshrc),
	} {
		for line, want := range want {
			if got := term.tab(line); got != want {
				t.Errorf("%s: %q\nbecomes %q\n   want %q", shell, line, got, want)
			}
		}
		// In zsh a bracket wants quotes to stand in a word at all.
		if line, want := "luna node show node[001-002],@ra", "luna node show node[001-002],@rack1 "; shell == "bash" && term.tab(line) != want {
			t.Errorf("bash: %q does not become %q", line, want)
		}
	}
}

// Fish gives what it would offer without a key being pressed.
func TestFishCompletes(t *testing.T) {
	needProgram(t, "fish")
	namedSite(t)
	for line, want := range map[string]string{
		"luna node show lo":      "login1",
		"luna node show %c":      "%compute",
		"luna node show @":       "@gpu @rack1",
		"luna group add -bn ip":  "ipmi",
		"lpower node001 o":       "off on",
		"lchroot c":              "centos compute",
		"luna node add --group=": "--group=compute --group=login",
	} {
		cmd := exec.CommandContext(t.Context(), "fish", "--no-config", "-c", "luna completion fish | source; complete -C "+"'"+line+"'")
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), quickExit)
		out, err := cmd.CombinedOutput()
		if got := strings.Join(strings.Fields(string(out)), " "); err != nil || got != want {
			t.Errorf("%q gets %q, %v; want %q", line, got, err, want)
		}
	}
}

// The scripts for the shells of others are at least scripts.
func TestCompletionScripts(t *testing.T) {
	needProgram(t, "bash", "zsh", "fish")
	for _, shell := range []string{"bash", "zsh", "fish"} {
		for _, program := range append([]string{""}, programs...) {
			code, script, stderr := invoke(t, strings.Fields("luna completion "+shell+" "+program)...)
			if code != exitOK {
				t.Fatal(stderr)
			}
			cmd := exec.CommandContext(t.Context(), shell, "-n")
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s -n, of luna completion %s %s: %v\n%s", shell, shell, program, err, out)
			}
		}
	}
	if code, _, stderr := invoke(t, "luna", "completion", "tcsh"); code != exitUsage || !strings.Contains(stderr, "choose a shell from bash, zsh, fish") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}
