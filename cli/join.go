package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

const (
	// joinTimeout is for joining as a whole: a head that is admitted has yet to
	// get the inventory.
	joinTimeout = time.Minute
	joinPoll    = 500 * time.Millisecond
)

func joinCommand(a *app) *cobra.Command {
	var token string
	c := &cobra.Command{
		Use:   "join ADDRESS --token TOKEN",
		Short: "Make this head a member of a mesh",
		Long: `Make this head a member of the mesh that the head at ADDRESS belongs to. The token
comes from luna head invite there; --token - reads it from stdin, which keeps it
out of sight. The command returns when this head has caught up with the others.
It may take a minute, or the time that --timeout says.`,
		Example: "  luna join 10.30.255.251 --token -",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("the following arguments are required: ADDRESS")
			}
			return noArgs(nil, args[1:])
		},
		RunE: a.do(func(ctx context.Context, s *session) error {
			if token == "-" {
				line, err := bufio.NewReader(s.cmd.InOrStdin()).ReadString('\n')
				if err != nil && !errors.Is(err, io.EOF) {
					return fmt.Errorf("read the token from stdin: %w", err)
				}
				token = line
			}
			if token = strings.TrimSpace(token); token == "" {
				return inventory.Errorf(inventory.KindInvalid, "", "", "there is no token: luna head invite on the head at %s prints one", s.name)
			}
			limit := joinTimeout
			if s.given("timeout") {
				limit = a.timeout
			}
			return join(ctx, s, api.JoinRequest{Address: s.name, Token: token}, limit)
		}),
	}
	c.Flags().StringVar(&token, "token", "", "the token of luna head invite, or - to read it from stdin")
	required(c, "token")
	return c
}

// join asks for admission and tells, while it waits, how far this head is.
func join(ctx context.Context, s *session, r api.JoinRequest, limit time.Duration) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	s.note("asking %s to admit this head", r.Address)
	joined := make(chan error, 1)
	go func() { joined <- s.within(limit).Join(ctx, r) }() // ends with ctx at the latest
	tick := time.NewTicker(joinPoll)
	defer tick.Stop()
	told, member, admitted := "", false, false
	for {
		select {
		case err := <-joined:
			if err != nil && ctx.Err() != nil && member {
				continue // with what is said then
			}
			if err != nil {
				return err
			}
			admitted = true
		case <-tick.C:
		case <-ctx.Done():
			if !member && !admitted {
				return <-joined
			}
			return fmt.Errorf("this head was admitted but %s after %v: it goes on trying, see `luna head list`", told, limit)
		}
		self, err := s.Self(ctx)
		if err != nil {
			continue
		}
		member = self.Member
		word, ready := standing(self)
		if word != told {
			s.note("head '%s' %s", self.Name, word)
			told = word
		}
		if admitted && ready {
			return nil
		}
	}
}

// standing puts into words how far a head is on its way into the mesh.
func standing(h api.HeadStatus) (word string, ready bool) {
	switch {
	case !h.Member:
		return "is not a member yet", false
	case h.Leader == "":
		return "is a member and looks for the others", false
	case h.AppliedIndex < h.CommitIndex:
		return "is a member and catches up", false
	}
	return "is a member and has caught up", true
}
