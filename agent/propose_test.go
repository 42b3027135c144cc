package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/clustervision/luna/consensus"
	"github.com/clustervision/luna/inventory"
)

// TestStoppingHeadIsUnavailable: a head that stops did not do what it was asked, and
// says so in a way that sends who asked to another head, rather than as a fault of
// its own.
func TestStoppingHeadIsUnavailable(t *testing.T) {
	m := &member{cfg: Config{Name: "h1"}}
	for _, err := range []error{
		consensus.ErrClosed,
		fmt.Errorf("asking the other heads who leads: %w", consensus.ErrClosed),
	} {
		if got := m.explain(err); !errors.Is(got, inventory.ErrUnavailable) || !again(got) {
			t.Errorf("%v became %v", err, got)
		}
	}
	if got := m.stopping(context.Canceled); !again(got) {
		t.Errorf("nobody else is asked after %v", got)
	}
	open := fmt.Errorf("%w: %w", consensus.ErrOutcomeUnknown, consensus.ErrClosed)
	if got := m.explain(open); !errors.Is(got, inventory.ErrUnknown) {
		t.Errorf("%v became %v", open, got)
	}
}
