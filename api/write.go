package api

import "github.com/clustervision/luna/inventory"

// AddNodes is the body of POST /v1/nodes.
type AddNodes struct {
	Group string        `json:"group"`
	Names string        `json:"names,omitempty" doc:"a hostlist; one node with the next automatic name if empty"`
	MAC   inventory.MAC `json:"mac,omitempty"`
}

// ChangeNodes is the body of PATCH /v1/nodes/{names}: what is given is set.
type ChangeNodes struct {
	Group     *string                `json:"group,omitempty"`
	MAC       *inventory.MAC         `json:"mac,omitempty" doc:"empty erases"`
	Addresses []inventory.SetAddress `json:"addresses,omitempty"`
	LocalBoot *bool                  `json:"localboot,omitempty"`
	SetupBMC  *bool                  `json:"setupbmc,omitempty"`
	Service   *bool                  `json:"service,omitempty"`
	Comment   *string                `json:"comment,omitempty"`
}

func (c ChangeNodes) command(names []string) inventory.ChangeNodes {
	return inventory.ChangeNodes{
		Names: names, Group: c.Group, MAC: c.MAC, Addresses: c.Addresses,
		LocalBoot: c.LocalBoot, SetupBMC: c.SetupBMC, Service: c.Service, Comment: c.Comment,
	}
}
