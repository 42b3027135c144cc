package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/clustervision/luna/inventory"
)

// emptyHead answers with the state before init; all else is not asked for.
type emptyHead struct{ Backend }

func (emptyHead) Fresh(context.Context) error { return nil }

func (emptyHead) View() *inventory.Inventory { return inventory.Empty() }

func TestRefusalsTravelWhole(t *testing.T) {
	role := RoleAdmin
	srv := httptest.NewServer(Handler(emptyHead{}, "test", func(*http.Request) Caller { return Caller{Name: "eve", Role: role} }))
	defer srv.Close()
	c := &Client{HTTP: srv.Client(), Base: srv.URL}

	_, err := c.Cluster(t.Context())
	if e := inventory.AsError(err); e.Kind != inventory.KindNotFound || e.Error() != "Object 'general' of type 'cluster' does not exist" {
		t.Errorf("cluster before init: %#v", e)
	}
	if _, err := c.Init(t.Context(), InitRequest{FrontendAddress: netip.MustParseAddr("10.30.255.254")}); inventory.AsError(err).Kind != inventory.KindDenied {
		t.Errorf("init from afar: %v", err)
	}
	role = RoleNobody
	if _, err := c.Networks(t.Context()); inventory.AsError(err).Kind != inventory.KindDenied {
		t.Errorf("without a certificate: %v", err)
	}
	role = RoleAdmin
	resp, err := srv.Client().Post(srv.URL+"/v1/networks", "application/json", strings.NewReader(`{"name":"n","prefix":"10.30.0.0/16","colour":1}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := readError(resp); !strings.Contains(err.Error(), "colour") {
		t.Errorf("unknown member: %v", err)
	}
}

func TestOpenAPIIsServed(t *testing.T) {
	srv := httptest.NewServer(Handler(emptyHead{}, "test", func(*http.Request) Caller { return Caller{Name: "admin", Role: RoleAdmin} }))
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL + "/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Fatalf("GET /v1/openapi.json: %s", resp.Status)
	}
}
