package api

import (
	"net/netip"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/clustervision/luna/inventory"
)

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
