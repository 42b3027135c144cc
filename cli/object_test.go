package cli

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestAwait(t *testing.T) {
	stopped, stop := context.WithCancel(t.Context())
	stop()
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		ctx   context.Context
		limit time.Duration
		so    func(asked int, ctx context.Context) (bool, error)
		done  bool
		err   error
	}{
		"at once":    {t.Context(), time.Minute, func(int, context.Context) (bool, error) { return true, nil }, true, nil},
		"in the end": {t.Context(), 0, func(asked int, _ context.Context) (bool, error) { return asked == 3, nil }, true, nil},
		"never":      {t.Context(), time.Millisecond, func(int, context.Context) (bool, error) { return false, nil }, false, nil},
		"no answer in time": {t.Context(), time.Millisecond, func(_ int, ctx context.Context) (bool, error) {
			<-ctx.Done()
			return false, ctx.Err()
		}, false, nil},
		"an error":    {t.Context(), 0, func(int, context.Context) (bool, error) { return true, broken }, false, broken},
		"interrupted": {stopped, 0, func(_ int, ctx context.Context) (bool, error) { return false, ctx.Err() }, false, context.Canceled},
	} {
		asked := 0
		done, err := await(tc.ctx, tc.limit, time.Millisecond, func(ctx context.Context) (bool, error) {
			asked++
			return tc.so(asked, ctx)
		})
		if done != tc.done || !errors.Is(err, tc.err) {
			t.Errorf("%s: %t, %v", name, done, err)
		}
	}
}
