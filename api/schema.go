package api

import (
	"net/netip"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/clustervision/luna/inventory"
)

// about is what the OpenAPI file says first.
const about = `The contract of a head. Every head serves the same and takes any request.

Two ways in: root on a head itself asks the unix socket /run/luna/luna.sock over
plain HTTP; from anywhere an admin credential (luna cluster credential NAME) is
the TLS client certificate for port 7051:

    curl --unix-socket /run/luna/luna.sock http://luna/v1/nodes/node001
    curl --cacert admin.pem --cert admin.pem https://HEAD:7051/v1/nodes/node001

A change is checked as luna checks it, is done whole or not at all, and is
answered when the asked head has it. With dry_run=true it is only told what would
change. A refusal is a JSON object with kind and message; the status follows from
the kind: 400 invalid, 403 denied, 404 not-found, 409 exists, in-use, refused, 503
unavailable, 504 unknown whether it was done.`

// describe gives the frame of the API's description.
func describe(version string) huma.Config {
	c := huma.DefaultConfig("Luna", version)
	c.DocsPath, c.SchemasPath = "", ""
	c.OpenAPIPath = "/v1/openapi"
	c.CreateHooks = nil // no $schema member in answers
	c.Info.Description = about
	c.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"credential": {Type: "mutualTLS", Description: "an admin credential of the cluster"},
	}
	c.Security = []map[string][]string{{"credential": {}}}
	return c
}

// describeTypes tells how types look on the wire that say so themselves, by
// encoding/json's interfaces.
func describeTypes(r huma.Registry) {
	alias[inventory.Maybe[string], string](r)
	alias[inventory.Maybe[*string], *string](r)
	alias[inventory.Maybe[int], int](r)
	alias[inventory.Maybe[bool], bool](r)
	alias[inventory.Maybe[*inventory.MAC], *string](r)
	alias[inventory.Maybe[[]string], []string](r)
	alias[inventory.Maybe[netip.Addr], string](r)
	alias[inventory.Maybe[[]netip.Addr], []string](r)
	alias[inventory.Maybe[netip.Prefix], string](r)
	alias[inventory.Maybe[*inventory.AddrRange], *inventory.AddrRange](r)
	alias[inventory.Maybe[map[string]netip.Addr], map[string]string](r)
	alias[inventory.Maybe[map[string]inventory.InterfaceDoc], map[string]inventory.InterfaceDoc](r)
}

func alias[T, As any](r huma.Registry) {
	r.RegisterTypeAlias(reflect.TypeFor[T](), reflect.TypeFor[As]())
}
