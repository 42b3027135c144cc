// Package api is the contract of a head: what people and other heads say to it
// over TLS or the local socket, as types, errors, a Handler and a Client that
// share them and so cannot drift.
//
// Objects are resources that one can curl (GET /v1/nodes/node001); a name in a
// path may be a hostlist (node[001-003]) where 1.2 took one. The bodies of
// writes are the commands of package inventory. Every refusal is an
// [inventory.Error] as JSON, under the HTTP status of its kind.
package api
