package cli

import (
	"context"
	"errors"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/clustervision/luna/image"
	"github.com/clustervision/luna/inventory"
)

var update = flag.Bool("update", false, "write the goldens of testdata/script anew")

func TestMain(m *testing.M) {
	image.ChrootChild() // lchroot runs this program once more
	program := func(root func() *cobra.Command) func() {
		return func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			root := root()
			root.Version = "1.2.3"
			code := Run(ctx, root, os.Args[1:])
			stop()
			os.Exit(code)
		}
	}
	testscript.Main(m, map[string]func(){
		"luna": program(func() *cobra.Command { return Root() }), "lpower": program(Power), "lchroot": program(Chroot),
	})
}

// TestScripts runs each command line of testdata/script as a process of its
// own, against a head of its own. Besides what testscript has:
//
//	exits CODE luna ...   the command ends with that code
//	head two              the cluster gets a second head
//	head holds            h2 gets the version, once somebody has looked twice
//	head drops            h2 has the version no more
//	head status NODE      the node reports a download
//	head duty NET         h1 answers DHCP there
//	head failing          the next pack fails
//	head behind N         h2 is N entries behind, one less whenever somebody looks
//	head dead             h2 failed
//	head stale REASON     h1 cannot make sure that it knows the newest state; '' ends it
//	head address PREFIX   h1 has that address too
func TestScripts(t *testing.T) {
	type key struct{}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			h := newTestHead()
			env.Values[key{}] = h
			env.Setenv("LUNA_SERVER", "unix://"+h.serve(env.T().(testing.TB)))
			env.Setenv("HOME", env.WorkDir+"/home")
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				code := 0
				if exit, ok := errors.AsType[*exec.ExitError](ts.Exec(args[1], args[2:]...)); ok {
					code = exit.ExitCode()
				}
				if code != want {
					ts.Fatalf("exit code %d, want %d", code, want)
				}
			},
			"head": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(ts.Value(key{}).(*testHead).arrange(args...))
			},
		},
	})
}

func (h *testHead) arrange(args ...string) error {
	switch args[0] {
	case "two":
		return h.secondHead()
	case "holds":
		h.mu.Lock()
		defer h.mu.Unlock()
		h.asked, h.after = 0, []inventory.Command{inventory.RecordHolder{Version: "0123456789abcdef", Head: "h2", Held: true}}
		return nil
	case "drops":
		return h.propose(inventory.RecordHolder{Version: "0123456789abcdef", Head: "h2"})
	case "status":
		return h.propose(inventory.RecordStatus{Statuses: []inventory.NodeStatus{{Name: args[1], Status: inventory.Status{
			Stage: "install.download", Time: time.Now().Add(-70 * time.Second), Head: "h1",
		}}}})
	case "duty":
		return h.propose(inventory.AssignDuties{DHCP: map[string]string{args[1]: "h1"}})
	case "behind":
		h.mu.Lock()
		defer h.mu.Unlock()
		n, err := strconv.ParseUint(args[1], 10, 64)
		h.behind = n
		return err
	case "address":
		inv := h.machine.View()
		h1, _ := inv.Head("h1")
		p, err := netip.ParsePrefix(args[1])
		if err != nil {
			return err
		}
		return h.propose(inventory.UpdateHead{Name: "h1", Address: h1.Address, Addresses: append(slices.Clone(h1.Addresses), p), Version: "test"})
	case "stale":
		h.mu.Lock()
		defer h.mu.Unlock()
		h.stale = args[1]
		return nil
	case "dead":
		h.mu.Lock()
		defer h.mu.Unlock()
		h.dead = true
		return nil
	case "failing":
		h.mu.Lock()
		defer h.mu.Unlock()
		h.failing = inventory.Errorf(inventory.KindInternal, "osimage", "compute", "dracut failed: install package dracut in the image")
		return nil
	}
	return errors.New("unknown: head " + args[0])
}
