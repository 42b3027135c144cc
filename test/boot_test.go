package test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clustervision/luna/test/lab"
	"github.com/clustervision/luna/test/lab/labtest"
	"github.com/clustervision/luna/test/site"
)

// bootPatience is for a machine without a disk, emulated beside another one, from
// power-on to the login prompt.
const bootPatience = 12 * time.Minute

// bootMachines boots emulated machines of each firmware beside one another: two of
// them to the OS, and one, as it differs no further, to its script.
func bootMachines(t *testing.T, s *site.Site) {
	for number, m := range map[int]struct {
		firmware lab.Firmware
		loads    string // what the console says of it
		toOS     bool
	}{
		1: {lab.BIOS, `iPXE .* -- Open Source Network Boot Firmware`, true},
		2: {lab.UEFI, `(?s)NBP filename is \S+\.efi\s.*NBP file downloaded successfully`, true},
		6: {lab.UEFIHTTP, `(?s)URI: http://\S+\.efi\s.*iPXE .* -- Open Source Network Boot Firmware`, false},
	} {
		node := nodeName(number)
		t.Run(m.firmware.String(), func(t *testing.T) {
			t.Parallel()
			ctx := labtest.Context(t, bootPatience)
			start := time.Now()
			machine, err := s.Lab.Machine(ctx, lab.MachineConfig{Name: node, MAC: nodeMAC(number), Firmware: m.firmware})
			must(t, err)
			defer machine.Kill()
			wait := func(pattern string) string {
				t.Helper()
				line, err := machine.WaitFor(ctx, regexp.MustCompile(pattern))
				must(t, err)
				t.Logf("%6.1f s, %5.1f s of CPU: %s", time.Since(start).Seconds(), machine.CPU().Seconds(), strings.TrimSpace(line[strings.LastIndexByte(line, '\n')+1:]))
				return line
			}
			wait(m.loads)
			wait(`Luna: ` + node + ` boots compute`)
			if !m.toOS {
				return
			}
			stages := follow(ctx, t, s, node)
			wait(`Linux version`)
			want := fmt.Sprintf(" addr=10.30.0.%d/16", number)
			if line := wait(`OS-READY.*\n`); !strings.Contains(line, "hostname="+node) || !strings.HasSuffix(line, want) {
				t.Errorf("it says %q, want hostname=%s and%s", line, node, want)
			}
			must(t, machine.Send("\n")) // the first prompt may have come before
			wait(node + ` login: `)
			checkStages(t, stages())
		})
	}
}

// seenStage is what `luna node show` told for a while.
type seenStage struct {
	name     string
	percents []float64 // the different ones, in their order
}

// follow asks a head for the node's stage again and again, as an administrator
// might, until it has been told of the success; stages waits for that.
func follow(ctx context.Context, t *testing.T, s *site.Site, node string) (stages func() []seenStage) {
	t.Helper()
	var seen []seenStage
	following, ctx := errgroup.WithContext(ctx)
	following.Go(func() error {
		return site.Until(ctx, bootPatience, node+" has succeeded", func() error {
			stage, percent, err := s.Heads[2].Stage(ctx, node)
			if err != nil {
				return err
			}
			if len(seen) == 0 || seen[len(seen)-1].name != stage {
				seen = append(seen, seenStage{name: stage})
			}
			last := &seen[len(seen)-1]
			if stage == "install.download" && (len(last.percents) == 0 || last.percents[len(last.percents)-1] != percent) {
				last.percents = append(last.percents, percent)
			}
			if stage != "install.success" {
				return fmt.Errorf("it is at %s", stage)
			}
			return nil
		})
	})
	return func() []seenStage {
		t.Helper()
		must(t, following.Wait())
		return seen
	}
}

// checkStages makes sure that the stages were shown in their order, and a download
// that grew.
func checkStages(t *testing.T, seen []seenStage) {
	t.Helper()
	t.Logf("luna node show told: %v", seen)
	order := []string{
		"", "boot.request", "install.request", "install.prescript", "install.partscript", "install.download", "install.unpack",
		"install.setnet", "install.postscript", "install.success",
	}
	at, between := -1, 0
	for _, stage := range seen {
		i := slices.Index(order, stage.name)
		if i <= at {
			t.Errorf("stage %q came after %q", stage.name, order[max(0, at)])
		}
		at = i
		if !slices.IsSorted(stage.percents) {
			t.Errorf("the download went %v", stage.percents)
		}
		for _, p := range stage.percents {
			if p > 0 && p < 100 {
				between++
			}
		}
	}
	if between == 0 {
		t.Error("no percentage between 0 and 100 was shown")
	}
}
