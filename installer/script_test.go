package installer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestScripts(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		fails      string   // in the error; "" for success
		tail       []string // the last lines
	}{
		{name: "empty", text: " \n\t\n"},
		{name: "environment", text: `echo "$NODE $PATH $PWD"`, tail: []string{"node001 /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /"}},
		{name: "both outputs in order", text: "echo one; echo two >&2; echo three", tail: []string{"one", "two", "three"}},
		{name: "status of the last command", text: "false\ntrue"},
		{name: "exit status", text: "echo before; exit 3", fails: "the partscript failed: exit status 3", tail: []string{"before"}},
		{name: "name and line of an error", text: "\nnonsense-command", fails: "exit status 127", tail: []string{"DIR/partscript: line 2: nonsense-command: command not found"}},
		{name: "bash and not sh", text: "a=(x y); echo ${a[1]}", tail: []string{"y"}},
		{name: "lines of Windows", text: "echo a\r\necho b\r\n", tail: []string{"a", "b"}},
		{name: "the last 20 lines", text: "seq 100; exit 1", fails: "exit status 1", tail: strings.Fields("81 82 83 84 85 86 87 88 89 90 91 92 93 94 95 96 97 98 99 100")},
		{name: "progress over itself", text: `printf '10%%\r20%%\r\nend'`, tail: []string{"10%", "20%", "end"}},
		{name: "a daemon left behind", text: "sleep 60 & echo started", tail: []string{"started"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var console bytes.Buffer
			s := scripts{dir: t.TempDir(), env: []string{"NODE=node001"}, console: &console}
			tail, err := s.run(t.Context(), "partscript", tt.text)
			if tt.fails == "" && err != nil || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
				t.Errorf("got error %v, want %q", err, tt.fails)
			}
			got := strings.ReplaceAll(strings.Join(tail, "\n"), s.dir, "DIR")
			if diff := cmp.Diff(strings.Join(tt.tail, "\n"), got); diff != "" {
				t.Errorf("last lines (-want +got):\n%s", diff)
			}
			if len(tail) > 0 && !strings.Contains(console.String(), tail[len(tail)-1]) {
				t.Errorf("the console shows %q", console.String())
			}
			if left, _ := os.ReadDir(s.dir); len(left) > 0 {
				t.Errorf("the script is left behind: %v", left)
			}
		})
	}
}

// TestScriptInterrupted: a script ends with its children when the installer is
// told to.
func TestScriptInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the reason")
	s := scripts{dir: t.TempDir(), console: writerFunc(func(p []byte) { cancel(reason) })}
	begin := time.Now()
	_, err := s.run(ctx, "prescript", "echo here\nsleep 60 | cat")
	if !errors.Is(err, reason) {
		t.Errorf("got error %v", err)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

// TestServiceShell talks to the shell over a terminal, as an administrator does.
func TestServiceShell(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	defer master.Close()
	// Over the raw connection: Fd would take the file out of the poller, and
	// then Close would not end the Read below.
	var number int
	conn, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := conn.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	// Kept open: else the reader below would see an error before the shell opens it.
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var screen bytes.Buffer
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			mu.Lock()
			screen.Write(buf[:n])
			mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	if _, err := io.WriteString(master, "tty; echo $((6*7)) $NODE; exit 5\n"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := serviceShell(ctx, tty.Name(), []string{"NODE=node001"}); err != nil {
		t.Error(err)
	}
	tty.Close()
	reading.Wait()
	for _, want := range []string{"(service) ", tty.Name(), "42 node001"} {
		if !strings.Contains(screen.String(), want) {
			t.Errorf("the terminal does not show %q:\n%s", want, screen.String())
		}
	}
	if strings.Contains(screen.String(), "no job control") {
		t.Errorf("the shell has no terminal of its own:\n%s", screen.String())
	}
	if err := serviceShell(ctx, "/nonexistent/tty", nil); err == nil {
		t.Error("no error without a terminal")
	}
}
