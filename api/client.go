package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"

	"github.com/clustervision/luna/inventory"
)

// SocketBase is the Base of a client whose HTTP goes to a socket, whatever it is asked for.
const SocketBase = "http://luna"

// Client speaks to one head. Its errors are *inventory.Error, as the head sent
// them; of KindUnavailable where the request did not get there, and of
// KindUnknown where a change may have got there and no answer came.
type Client struct {
	// HTTP carries the requests: it knows the socket or the certificates.
	HTTP *http.Client
	// Base is "https://host:7051", or [SocketBase].
	Base string
	// DryRun makes every change a question: what would it do?
	DryRun bool
	// Local asks for what the head has, fresh or not: see [ReadHeader].
	Local bool
	// Stale, if not nil, hears why an answer may not be of the newest state.
	Stale func(reason string)
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
	kind := "application/json"
	if b, ok := in.([]byte); ok {
		content, kind = bytes.NewReader(b), "application/octet-stream"
	} else if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		content = bytes.NewReader(b)
	}
	if c.DryRun && method != http.MethodGet {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		path += sep + dryRun + "=true"
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, content)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", kind)
	}
	if c.Local {
		req.Header.Set(ReadHeader, ReadLocal)
	}
	kindOfFailure := inventory.KindUnavailable
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		if method != http.MethodGet {
			kindOfFailure = inventory.KindUnknown // from here on, it may get there
		}
	}}))
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
		at := " at " + c.Base
		if c.Base == SocketBase {
			at = ""
		}
		return nil, inventory.Errorf(kindOfFailure, "", "", "cannot reach the luna agent%s: %v", at, err)
	}
	if why := resp.Header.Get(StaleHeader); why != "" && c.Stale != nil {
		c.Stale(why)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// readError gives the refusal in an answer.
func readError(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var e inventory.Error
	if json.Unmarshal(b, &e) == nil && e.Kind != "" {
		return &e
	}
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
		// The head has no such route at all: a refusal of its own would have a kind.
		return inventory.Errorf(inventory.KindNotFound, "", "", "the head runs a release of luna that does not know this: upgrade luna on all heads first")
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

// NodesNamed shows the nodes of a selection: a hostlist, @tag, %group.
func (c *Client) NodesNamed(ctx context.Context, names string) ([]Node, error) {
	return fetch[[]Node](ctx, c, "GET", "/v1/nodes?names="+url.QueryEscape(names), nil)
}

// Script shows what a node gets at "boot" or "install".
func (c *Client) Script(ctx context.Context, node, step string) (string, error) {
	return fetch[string](ctx, c, "GET", p("/v1/nodes/%s/script/%s", node, step), nil)
}

// AddNodes makes nodes; the answer has their names.
func (c *Client) AddNodes(ctx context.Context, r AddNodes) (Written, error) {
	return fetch[Written](ctx, c, "POST", "/v1/nodes", r)
}

// ChangeNodes changes the nodes of a selection.
func (c *Client) ChangeNodes(ctx context.Context, names string, r ChangeNodes) (Written, error) {
	return fetch[Written](ctx, c, "PATCH", p("/v1/nodes/%s", names), r)
}

// DeleteNodes deletes the nodes of a selection.
func (c *Client) DeleteNodes(ctx context.Context, names string) (Written, error) {
	return fetch[Written](ctx, c, "DELETE", p("/v1/nodes/%s", names), nil)
}

// BMCSetups lists bmcsetups, with passwords if secrets are asked for.
func (c *Client) BMCSetups(ctx context.Context, secrets bool) ([]BMCSetup, error) {
	return fetch[[]BMCSetup](ctx, c, "GET", fmt.Sprintf("/v1/bmcsetups?secrets=%t", secrets), nil)
}

// BMCSetup shows a bmcsetup, with its password if secrets are asked for.
func (c *Client) BMCSetup(ctx context.Context, name string, secrets bool) (BMCSetup, error) {
	return fetch[BMCSetup](ctx, c, "GET", p("/v1/bmcsetups/%s", name)+fmt.Sprintf("?secrets=%t", secrets), nil)
}

// Switches lists switches.
func (c *Client) Switches(ctx context.Context) ([]Switch, error) {
	return fetch[[]Switch](ctx, c, "GET", "/v1/switches", nil)
}

// Switch shows a switch.
func (c *Client) Switch(ctx context.Context, name string) (Switch, error) {
	return fetch[Switch](ctx, c, "GET", p("/v1/switches/%s", name), nil)
}

// AddSwitches makes the switches of a hostlist.
func (c *Client) AddSwitches(ctx context.Context, r AddSwitches) (Written, error) {
	return fetch[Written](ctx, c, "POST", "/v1/switches", r)
}

// ChangeSwitches changes the switches of a hostlist.
func (c *Client) ChangeSwitches(ctx context.Context, hostlist string, r ChangeSwitches) (Written, error) {
	return fetch[Written](ctx, c, "PATCH", p("/v1/switches/%s", hostlist), r)
}

// DeleteSwitches deletes the switches of a hostlist.
func (c *Client) DeleteSwitches(ctx context.Context, hostlist string) (Written, error) {
	return fetch[Written](ctx, c, "DELETE", p("/v1/switches/%s", hostlist), nil)
}

// OtherDevs lists other devices.
func (c *Client) OtherDevs(ctx context.Context) ([]OtherDev, error) {
	return fetch[[]OtherDev](ctx, c, "GET", "/v1/otherdevs", nil)
}

// OtherDev shows another device.
func (c *Client) OtherDev(ctx context.Context, name string) (OtherDev, error) {
	return fetch[OtherDev](ctx, c, "GET", p("/v1/otherdevs/%s", name), nil)
}

// AddOtherDevs makes the devices of a hostlist.
func (c *Client) AddOtherDevs(ctx context.Context, r AddOtherDevs) (Written, error) {
	return fetch[Written](ctx, c, "POST", "/v1/otherdevs", r)
}

// ChangeOtherDevs changes the devices of a hostlist.
func (c *Client) ChangeOtherDevs(ctx context.Context, hostlist string, r ChangeOtherDevs) (Written, error) {
	return fetch[Written](ctx, c, "PATCH", p("/v1/otherdevs/%s", hostlist), r)
}

// DeleteOtherDevs deletes the devices of a hostlist.
func (c *Client) DeleteOtherDevs(ctx context.Context, hostlist string) (Written, error) {
	return fetch[Written](ctx, c, "DELETE", p("/v1/otherdevs/%s", hostlist), nil)
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
	return fetch[AdmitReply](ctx, c, "POST", admissions, r)
}

// Forward hands a command to the head that leads.
func (c *Client) Forward(ctx context.Context, command []byte) (Applied, error) {
	return fetch[Applied](ctx, c, "POST", "/v1/commands", json.RawMessage(command))
}

// Kernels lists the kernels in the osimage's tree on the asked head.
func (c *Client) Kernels(ctx context.Context, image string) ([]string, error) {
	return fetch[[]string](ctx, c, "GET", p("/v1/osimages/%s/kernels", image), nil)
}

// Pack packs an osimage on the asked head and gives the new version's ID.
func (c *Client) Pack(ctx context.Context, image string, r PackRequest, progress func(JobEvent)) (version string, err error) {
	return c.job(ctx, p("/v1/osimages/%s/pack", image), r, progress)
}

// Clone copies an osimage and its tree on the asked head.
func (c *Client) Clone(ctx context.Context, image string, r CloneRequest, progress func(JobEvent)) error {
	_, err := c.job(ctx, p("/v1/osimages/%s/clone", image), r, progress)
	return err
}

// Grab takes a running host into the osimage's tree on the asked head.
func (c *Client) Grab(ctx context.Context, image string, r GrabRequest, progress func(JobEvent)) error {
	_, err := c.job(ctx, p("/v1/osimages/%s/grab", image), r, progress)
	return err
}

// job follows a long job to its end.
func (c *Client) job(ctx context.Context, path string, in any, progress func(JobEvent)) (version string, err error) {
	resp, err := c.send(ctx, "POST", path, in)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var e JobEvent
		if err := dec.Decode(&e); err != nil {
			return "", inventory.Errorf(inventory.KindUnknown, "", "", "the head stopped answering in the middle of the job: %v", err)
		}
		if e.Error != nil {
			return "", e.Error
		}
		progress(e)
		if e.Phase == JobDone {
			return e.Version, nil
		}
	}
}

// Zones gives the DNS zones as files for BIND; write puts them in place on the
// asked head.
func (c *Client) Zones(ctx context.Context, write bool) (Exported, error) {
	method := http.MethodGet
	if write {
		method = http.MethodPost
	}
	return fetch[Exported](ctx, c, method, "/v1/zones", nil)
}

// DHCPConfig gives the inventory as a configuration of ISC's dhcpd, or of a
// failover pair.
func (c *Client) DHCPConfig(ctx context.Context, failover bool) (Exported, error) {
	return fetch[Exported](ctx, c, "GET", fmt.Sprintf("/v1/dhcpd?failover=%t", failover), nil)
}

// Log lists changes, the newest first: of the objects of that type and name,
// "" for all; limit 0 for as many as there are.
func (c *Client) Log(ctx context.Context, object, name string, limit int) ([]Entry, error) {
	q := url.Values{"object": {object}, "name": {name}, "limit": {strconv.Itoa(limit)}}
	return fetch[[]Entry](ctx, c, "GET", "/v1/log?"+q.Encode(), nil)
}

// Entry shows one change, with what was before and after.
func (c *Client) Entry(ctx context.Context, id uint64, secrets bool) (Entry, error) {
	return fetch[Entry](ctx, c, "GET", fmt.Sprintf("/v1/log/%d?secrets=%t", id, secrets), nil)
}

// Undo takes a change back.
func (c *Client) Undo(ctx context.Context, id uint64) (Written, error) {
	return fetch[Written](ctx, c, "POST", fmt.Sprintf("/v1/log/%d/undo", id), nil)
}

// Export gives the whole inventory, with passwords if secrets are asked for.
func (c *Client) Export(ctx context.Context, secrets bool) (inventory.Document, error) {
	return fetch[inventory.Document](ctx, c, "GET", fmt.Sprintf("/v1/document?secrets=%t", secrets), nil)
}

// Apply makes a document true. It is given as JSON, so that what the head does
// not know in it is refused and not lost on the way.
func (c *Client) Apply(ctx context.Context, document json.RawMessage, prune bool) (Written, error) {
	return fetch[Written](ctx, c, "POST", fmt.Sprintf("/v1/document?prune=%t", prune), document)
}

// Write sends a command that is a plain write: its resource follows from its
// type.
func (c *Client) Write(ctx context.Context, cmd inventory.Command) (Written, error) {
	method, path, err := route(cmd)
	if err != nil {
		return Written{}, err
	}
	return fetch[Written](ctx, c, method, path, bodyOf(cmd))
}

// RemoveHead removes a head for good.
func (c *Client) RemoveHead(ctx context.Context, name string, force bool) error {
	return c.do(ctx, "DELETE", p("/v1/heads/%s", name)+fmt.Sprintf("?force=%t", force), nil, nil)
}

// ReplaceHead removes a head that is lost and makes a join token for another.
func (c *Client) ReplaceHead(ctx context.Context, name string, r ReplaceRequest) (InviteReply, error) {
	return fetch[InviteReply](ctx, c, "POST", p("/v1/heads/%s/replace", name), r)
}

// ChangeHead changes a head.
func (c *Client) ChangeHead(ctx context.Context, name string, r HeadChange) error {
	return c.do(ctx, "PATCH", p("/v1/heads/%s", name), r, nil)
}

// Drain takes from a head all that another one can do.
func (c *Client) Drain(ctx context.Context, name string, r DrainRequest, progress func(JobEvent)) error {
	_, err := c.job(ctx, p("/v1/heads/%s/drain", name), r, progress)
	return err
}

// Undrain lets a head work again.
func (c *Client) Undrain(ctx context.Context, name string) error {
	return c.do(ctx, "POST", p("/v1/heads/%s/undrain", name), nil, nil)
}

// Leave drains the asked head, which must be that of the name, and removes it.
func (c *Client) Leave(ctx context.Context, name string, r LeaveRequest, progress func(JobEvent)) error {
	_, err := c.job(ctx, p("/v1/heads/%s/leave", name), r, progress)
	return err
}

// Safe tells whether a head may go down now.
func (c *Client) Safe(ctx context.Context, name string) (Safety, error) {
	return fetch[Safety](ctx, c, "GET", p("/v1/heads/%s/safe", name), nil)
}

// Status tells how the whole cluster is.
func (c *Client) Status(ctx context.Context) (ClusterStatus, error) {
	return fetch[ClusterStatus](ctx, c, "GET", "/v1/status", nil)
}

// ReadIndex asks the head that leads what must be applied to be fresh.
func (c *Client) ReadIndex(ctx context.Context) (uint64, error) {
	f, err := fetch[Fresh](ctx, c, "GET", "/v1/commands/read-index", nil)
	return f.Index, err
}

// Backup gives the whole state but for the images.
func (c *Client) Backup(ctx context.Context) ([]byte, error) {
	resp, err := c.send(ctx, "GET", "/v1/backup", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, inventory.Errorf(inventory.KindUnavailable, "", "", "the answer of %s broke off: %v", c.Base, err)
	}
	return b, nil
}

// Restore begins a cluster on the asked head with what Backup gave.
func (c *Client) Restore(ctx context.Context, backup []byte) (RestoreReply, error) {
	return fetch[RestoreReply](ctx, c, "POST", "/v1/restore", backup)
}

// Recover lets the asked head go on alone.
func (c *Client) Recover(ctx context.Context) error {
	return c.do(ctx, "POST", "/v1/recover", nil, nil)
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
	case inventory.CloneGroup:
		return "POST", p("/v1/groups/%s/clone", v.Name), nil
	case inventory.AddBMCSetup:
		return "POST", "/v1/bmcsetups", nil
	case inventory.ChangeBMCSetup:
		return "PATCH", p("/v1/bmcsetups/%s", v.Name), nil
	case inventory.DeleteBMCSetup:
		return "DELETE", p("/v1/bmcsetups/%s", v.Name), nil
	case inventory.DeleteCluster:
		return "DELETE", fmt.Sprintf("/v1/cluster?force=%t", v.Force), nil
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
	case inventory.DeleteNetwork, inventory.DeleteOSImage, inventory.DeleteVersion, inventory.DeleteGroup,
		inventory.DeleteBMCSetup, inventory.DeleteCluster:
		return nil
	}
	return cmd
}
