package image

import (
	"context"
	"io"

	"golang.org/x/sync/errgroup"
)

// ordered runs work on every value that produce emits, on several goroutines of g, and returns a
// function that hands out the results in the order of emission, then [io.EOF]. At most
// ahead+workers values are under way, which bounds the memory. An error of produce or work is
// handed out in its place in that order, so whoever consumes never mistakes a failure for the end.
//
// ctx must be the group's context: when it ends, emit and the returned function give its cause.
func ordered[In, Out any](ctx context.Context, g *errgroup.Group, workers, ahead int,
	produce func(emit func(In) error) error, work func(In) (Out, error),
) (next func() (Out, error)) {
	type future struct {
		in   In
		out  Out
		err  error
		done chan struct{}
	}
	queue := make(chan *future, ahead)
	todo := make(chan *future)

	g.Go(func() error {
		defer close(queue)
		defer close(todo)
		err := produce(func(in In) error {
			f := &future{in: in, done: make(chan struct{})}
			for _, ch := range []chan *future{queue, todo} {
				select {
				case ch <- f:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		})
		if err != nil {
			f := &future{err: err, done: make(chan struct{})}
			close(f.done)
			select {
			case queue <- f:
			case <-ctx.Done():
			}
		}
		return err
	})
	for range workers {
		g.Go(func() error {
			for f := range todo {
				f.out, f.err = work(f.in)
				close(f.done)
			}
			return nil
		})
	}

	return func() (out Out, err error) {
		select {
		case f, ok := <-queue:
			if !ok {
				return out, io.EOF
			}
			select {
			case <-f.done:
				return f.out, f.err
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		return out, context.Cause(ctx)
	}
}
