package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/clustervision/luna/cli"
)

// settled reads a configuration as `luna agent` does.
func settled(t *testing.T, file string, args ...string) (*settings, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	s, flags := newSettings("test"), pflag.NewFlagSet("agent", pflag.ContinueOnError)
	s.flags(flags)
	if err := flags.Parse(append([]string{"--config", path, "--name", "h1"}, args...)); err != nil {
		t.Fatal(err)
	}
	err := s.settle(flags)
	if err != nil { // as if the file were here
		err = errorText(strings.ReplaceAll(err.Error(), path, "agent.yaml"))
	}
	return s, err
}

type errorText string

func (e errorText) Error() string { return string(e) }

func TestWhatCounts(t *testing.T) {
	t.Setenv("LUNA_RAFT_PORT", "3")
	t.Setenv("LUNA_API_PORT", "3")
	s, err := settled(t, "api-port: 4\nraft-port: 4\nhttp-port: 4\nipxe-dir: [/a, /b]\nwitness: true\n", "--api-port", "2")
	if err != nil {
		t.Fatal(err)
	}
	c := s.agent
	if c.APIPort != 2 || c.RaftPort != 3 || c.HTTPPort != 4 {
		t.Errorf("flag over variable over file gives %d %d %d", c.APIPort, c.RaftPort, c.HTTPPort)
	}
	if !c.Witness || !cmp.Equal(c.IPXEDirs, []string{"/a", "/b"}) {
		t.Errorf("the rest is %v %v", c.Witness, c.IPXEDirs)
	}
}

func TestWrongConfiguration(t *testing.T) {
	for name, test := range map[string]struct{ file, want string }{
		"no YAML":       {"a: [b", "agent.yaml: yaml: line 1: did not find expected ',' or ']'"},
		"no map":        {"- a\n", `agent.yaml:1: expected lines of the form "key: value"`},
		"unknown":       {"bind: 10.0.0.1\nnam: h1\n", "agent.yaml:2: unknown key 'nam'"},
		"not for files": {"check: true\n", "agent.yaml:1: unknown key 'check'"},
		"twice":         {"bind: 10.0.0.1\nbind: 10.0.0.2\n", "agent.yaml:2: 'bind' was given before, in agent.yaml:1"},
		"empty":         {"data-dir:\n", "agent.yaml:1: 'data-dir' needs a plain value"},
		"a map":         {"bind:\n  to: 10.0.0.1\n", "agent.yaml:1: 'bind' needs a plain value"},
		"types":         {"api-port: http\nwitness: yes\n", "agent.yaml:1: api-port: 'http' is no number\nagent.yaml:2: witness: 'yes' is neither true nor false"},
		"values": {
			"log-level: loud\nlog-format: xml\nbind: here\napi-port: 99999\ndhcp-port: -2\n",
			"agent.yaml:3: bind: 'here' is no IP address\n" +
				"agent.yaml:1: log-level: 'loud' is none of debug, info, warn, error\n" +
				"agent.yaml:2: log-format: 'xml' is none of text, json\n" +
				"agent.yaml:4: api-port: 99999 is no port\n" +
				"agent.yaml:5: dhcp-port: -2 is no port",
		},
		"ports that meet":   {"http-port: 8300\n", "agent.yaml:1: raft-port: 8300 is http-port already"},
		"relative":          {"socket: run/luna.sock\n", "agent.yaml:1: socket: must be an absolute path, not 'run/luna.sock'"},
		"a second document": {"bind: 10.0.0.1\n---\nbind: 10.0.0.2\n", "agent.yaml:2: a second document begins here, which nobody would read: take the line --- away"},
		"a list of maps":    {"ipxe-dir: [{a: b}]\n", "agent.yaml:1: 'ipxe-dir' needs a plain value"},
		"help":              {"help: true\n", "agent.yaml:1: unknown key 'help'"},
		"several faults":    {"nam: h1\napi-port: 99999999999999999999\nsocket: ''\n", "agent.yaml:1: unknown key 'nam'\nagent.yaml:2: api-port: '99999999999999999999' is no number\nagent.yaml:3: socket: must be an absolute path, not ''"},
		"empty path":        {"data-dir: ''\n", "agent.yaml:1: data-dir: must be an absolute path, not ''"},
		"the swarm's":       {"swarm-port-min: 8000\n", "agent.yaml:1: swarm-port-max: 7200 is below swarm-port-min 8000"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := settled(t, test.file)
			if err == nil || err.Error() != test.want {
				t.Errorf("got\n%v\nwant\n%s", err, test.want)
			}
		})
	}
}

// TestWrongNameHidesNothing: what cannot name a head is told with its place, beside all else
// that is wrong.
func TestWrongNameHidesNothing(t *testing.T) {
	t.Setenv("LUNA_NAME", "my head")
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte("api-port: 70000\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	root := program("luna")
	root.SetErr(&out)
	if code := cli.Run(t.Context(), root, []string{"agent", "--check", "--config", path}); code != exitConfig {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"variable LUNA_NAME: name: 'my head' cannot name a head", path + ":1: api-port: 70000 is no port"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
}
