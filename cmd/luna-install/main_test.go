package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	truncated := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"version":1,"node":"n1",`)
	}))
	defer truncated.Close()
	good := "root=luna luna.node=n1 luna.heads=" + truncated.Listener.Addr().String()
	for _, tt := range []struct {
		name    string
		args    []string
		cmdline string
		status  int
		says    string
	}{
		{name: "help", args: []string{"--help"}, status: 0, says: "-cmdline FILE"},
		{name: "unknown flag", args: []string{"--nonsense"}, status: 2, says: "flag provided but not defined: -nonsense"},
		{name: "seconds", args: []string{"--seed", "1m"}, status: 2, says: `invalid value "1m" for flag -seed`},
		{name: "argument", args: []string{"now"}, status: 2, says: `unexpected argument "now", see --help`},
		{name: "no command line", args: []string{"--cmdline", "/nonexistent"}, status: 2, says: "open /nonexistent: no such file"},
		{name: "another's command line", cmdline: "root=/dev/sda1", status: 2, says: "root=/dev/sda1 is not root=luna"},
		{name: "a running system", cmdline: good, status: 2, says: "this is no initrd"},
		{name: "root that cannot be", cmdline: good, args: []string{"--root", "/dev/null/root", "--no-network"}, status: 1, says: "install to /dev/null/root"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.args
			if tt.cmdline != "" {
				file := filepath.Join(t.TempDir(), "cmdline")
				if err := os.WriteFile(file, []byte(tt.cmdline), 0o644); err != nil {
					t.Fatal(err)
				}
				args = append([]string{"--cmdline", file}, args...)
			}
			var stderr bytes.Buffer
			if status := run(args, &stderr); status != tt.status {
				t.Errorf("status %d, want %d", status, tt.status)
			}
			if !strings.Contains(stderr.String(), tt.says) {
				t.Errorf("it says nothing of %q:\n%s", tt.says, stderr.String())
			}
		})
	}
}

// TestLogger: a line for people, with the time since boot.
func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log := logger(&out)
	log.Info("downloading", "percent", 10)
	log.Error("the stage failed", "stage", "install.unpack")
	want := regexp.MustCompile(`^luna=\d+\.\d msg=downloading percent=10\nluna=\d+\.\d level=ERROR msg="the stage failed" stage=install\.unpack\n$`)
	if !want.MatchString(out.String()) {
		t.Errorf("logged:\n%s", out.String())
	}
}

func TestDefaultRoot(t *testing.T) {
	t.Setenv("NEWROOT", "")
	if got := defaultRoot(); got != "/sysroot" {
		t.Errorf("got %s", got)
	}
	t.Setenv("NEWROOT", "/new")
	if got := defaultRoot(); got != "/new" {
		t.Errorf("got %s", got)
	}
}
