package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/clustervision/luna/inventory"
)

// Client speaks to one head. Its errors are *inventory.Error, as the head sent
// them; one that never reached the head is of KindUnavailable.
type Client struct {
	// HTTP carries the requests: it knows the socket or the certificates.
	HTTP *http.Client
	// Base is "https://host:7051", or "http://luna" over a socket.
	Base string
}

// do sends in as JSON and reads the answer into out; both may be nil.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil || resp.StatusCode == http.StatusNoContent {
		_, _ = io.Copy(io.Discard, resp.Body)
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return inventory.Errorf(inventory.KindUnavailable, "", "", "the answer of %s broke off: %v", c.Base, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var content io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, content)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		var refused *inventory.Error
		if errors.As(err, &refused) {
			return nil, refused // the transport knows best what is wrong
		}
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, inventory.Errorf(inventory.KindUnavailable, "", "", "cannot reach the luna agent at %s: %v", c.Base, err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// readError gives the refusal in an answer. What the HTTP layer itself refused
// (a malformed body) comes as RFC 9457 problem details.
func readError(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var e struct {
		inventory.Error
		Detail string `json:"detail"`
		Errors []struct {
			Message  string `json:"message"`
			Location string `json:"location"`
		} `json:"errors"`
	}
	if json.Unmarshal(b, &e) == nil {
		if e.Kind != "" {
			return &e.Error
		}
		if e.Detail != "" {
			for _, d := range e.Errors {
				e.Detail += fmt.Sprintf("; %s: %s", d.Location, d.Message)
			}
			return inventory.Errorf(inventory.KindInvalid, "", "", "%s", e.Detail)
		}
	}
	return inventory.Errorf(inventory.KindInternal, "", "", "unexpected answer %s: %s", resp.Status, bytes.TrimSpace(b))
}

func fetch[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	var out T
	err := c.do(ctx, method, path, in, &out)
	return out, err
}

func p(format string, names ...string) string {
	args := make([]any, len(names))
	for i, n := range names {
		args[i] = url.PathEscape(n)
	}
	return fmt.Sprintf(format, args...)
}

// Cluster shows the cluster.
func (c *Client) Cluster(ctx context.Context) (Cluster, error) {
	return fetch[Cluster](ctx, c, "GET", "/v1/cluster", nil)
}

// Init makes a cluster of the head behind the socket.
func (c *Client) Init(ctx context.Context, r InitRequest) (InitReply, error) {
	return fetch[InitReply](ctx, c, "POST", "/v1/cluster", r)
}

// Credential makes an admin credential of that name, as PEM.
func (c *Client) Credential(ctx context.Context, name string) (string, error) {
	return fetch[string](ctx, c, "POST", p("/v1/credentials/%s", name), nil)
}

// Networks lists networks.
func (c *Client) Networks(ctx context.Context) ([]Network, error) {
	return fetch[[]Network](ctx, c, "GET", "/v1/networks", nil)
}

// Network shows a network.
func (c *Client) Network(ctx context.Context, name string) (Network, error) {
	return fetch[Network](ctx, c, "GET", p("/v1/networks/%s", name), nil)
}

// OSImages lists osimages.
func (c *Client) OSImages(ctx context.Context) ([]OSImage, error) {
	return fetch[[]OSImage](ctx, c, "GET", "/v1/osimages", nil)
}

// OSImage shows an osimage.
func (c *Client) OSImage(ctx context.Context, name string) (OSImage, error) {
	return fetch[OSImage](ctx, c, "GET", p("/v1/osimages/%s", name), nil)
}

// Groups lists groups.
func (c *Client) Groups(ctx context.Context) ([]Group, error) {
	return fetch[[]Group](ctx, c, "GET", "/v1/groups", nil)
}

// Group shows a group.
func (c *Client) Group(ctx context.Context, name string) (Group, error) {
	return fetch[Group](ctx, c, "GET", p("/v1/groups/%s", name), nil)
}

// Nodes lists the nodes of a group, or all for "".
func (c *Client) Nodes(ctx context.Context, group string) ([]Node, error) {
	return fetch[[]Node](ctx, c, "GET", "/v1/nodes?group="+url.QueryEscape(group), nil)
}

// NodesNamed shows the nodes of a hostlist.
func (c *Client) NodesNamed(ctx context.Context, hostlist string) ([]Node, error) {
	return fetch[[]Node](ctx, c, "GET", p("/v1/nodes/%s", hostlist), nil)
}

// Script shows what a node gets at "boot" or "install".
func (c *Client) Script(ctx context.Context, node, step string) (string, error) {
	return fetch[string](ctx, c, "GET", p("/v1/nodes/%s/script/%s", node, step), nil)
}

// AddNodes makes nodes and gives their names.
func (c *Client) AddNodes(ctx context.Context, r AddNodes) ([]string, error) {
	return fetch[[]string](ctx, c, "POST", "/v1/nodes", r)
}

// ChangeNodes changes the nodes of a hostlist.
func (c *Client) ChangeNodes(ctx context.Context, hostlist string, r ChangeNodes) error {
	return c.do(ctx, "PATCH", p("/v1/nodes/%s", hostlist), r, nil)
}

// Heads lists heads as the asked one sees them.
func (c *Client) Heads(ctx context.Context) ([]Head, error) {
	return fetch[[]Head](ctx, c, "GET", "/v1/heads", nil)
}

// Self tells how the asked head is.
func (c *Client) Self(ctx context.Context) (HeadStatus, error) {
	return fetch[HeadStatus](ctx, c, "GET", "/v1/head", nil)
}

// Invite makes a join token.
func (c *Client) Invite(ctx context.Context, r InviteRequest) (InviteReply, error) {
	return fetch[InviteReply](ctx, c, "POST", "/v1/heads/invite", r)
}

// Join makes the head behind the socket a member.
func (c *Client) Join(ctx context.Context, r JoinRequest) error {
	return c.do(ctx, "POST", "/v1/join", r, nil)
}

// Admit asks a member to let this head in.
func (c *Client) Admit(ctx context.Context, r AdmitRequest) (AdmitReply, error) {
	return fetch[AdmitReply](ctx, c, "POST", "/v1/admissions", r)
}

// Forward hands a command to the head that leads.
func (c *Client) Forward(ctx context.Context, command []byte) (Applied, error) {
	return fetch[Applied](ctx, c, "POST", "/v1/commands", json.RawMessage(command))
}

// Pack packs an osimage on the asked head and tells of its progress.
func (c *Client) Pack(ctx context.Context, image string, progress func(PackEvent)) (version string, err error) {
	resp, err := c.send(ctx, "POST", p("/v1/osimages/%s/pack", image), nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var e PackEvent
		if err := dec.Decode(&e); err != nil {
			return "", inventory.Errorf(inventory.KindUnknown, "osimage", image, "the head stopped answering while packing '%s': %v", image, err)
		}
		if e.Error != nil {
			return "", e.Error
		}
		progress(e)
		if e.Phase == "done" {
			return e.Version, nil
		}
	}
}

// Write sends a command that is a plain write: its resource follows from its
// type.
func (c *Client) Write(ctx context.Context, cmd inventory.Command) error {
	method, path, err := route(cmd)
	if err != nil {
		return err
	}
	return c.do(ctx, method, path, bodyOf(cmd), nil)
}

// ChangeInterface changes an interface of a group; the notice says why there
// was nothing to do.
func (c *Client) ChangeInterface(ctx context.Context, cmd inventory.ChangeInterface) (notice string, err error) {
	return fetch[string](ctx, c, "PATCH", p("/v1/groups/%s/interfaces", cmd.Group), cmd)
}

func route(cmd inventory.Command) (method, path string, err error) {
	switch v := cmd.(type) {
	case inventory.ChangeCluster:
		return "PATCH", "/v1/cluster", nil
	case inventory.AddNetwork:
		return "POST", "/v1/networks", nil
	case inventory.ChangeNetwork:
		return "PATCH", p("/v1/networks/%s", v.Name), nil
	case inventory.SetRange:
		if v.Range.IsZero() {
			return "DELETE", p("/v1/networks/%s/range", v.Network), nil
		}
		return "PUT", p("/v1/networks/%s/range", v.Network), nil
	case inventory.DeleteNetwork:
		return "DELETE", p("/v1/networks/%s", v.Name), nil
	case inventory.AddOSImage:
		return "POST", "/v1/osimages", nil
	case inventory.ChangeOSImage:
		return "PATCH", p("/v1/osimages/%s", v.Name), nil
	case inventory.DeleteOSImage:
		return "DELETE", p("/v1/osimages/%s", v.Name), nil
	case inventory.DeleteVersion:
		return "DELETE", p("/v1/versions/%s", v.Version), nil
	case inventory.AddGroup:
		return "POST", "/v1/groups", nil
	case inventory.ChangeGroup:
		return "PATCH", p("/v1/groups/%s", v.Name), nil
	case inventory.DeleteGroup:
		return "DELETE", p("/v1/groups/%s", v.Name), nil
	case inventory.Rename:
		return "POST", "/v1/rename", nil
	case inventory.RemoveHead:
		return "DELETE", p("/v1/heads/%s", v.Name), nil
	}
	return "", "", fmt.Errorf("%T is no plain write", cmd)
}

func bodyOf(cmd inventory.Command) any {
	switch v := cmd.(type) {
	case inventory.SetRange:
		if !v.Range.IsZero() {
			return v.Range
		}
		return nil
	case inventory.DeleteNetwork, inventory.DeleteOSImage, inventory.DeleteVersion, inventory.DeleteGroup, inventory.RemoveHead:
		return nil
	}
	return cmd
}

// DeleteNodes deletes the nodes of a hostlist.
func (c *Client) DeleteNodes(ctx context.Context, hostlist string) error {
	return c.do(ctx, "DELETE", p("/v1/nodes/%s", hostlist), nil, nil)
}
