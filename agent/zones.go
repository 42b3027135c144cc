package agent

import (
	"context"

	"github.com/clustervision/luna/api"
	"github.com/clustervision/luna/inventory"
)

// Zones writes the DNS zones as files for BIND on this head.
func (a *Agent) Zones(context.Context) (api.Exported, error) {
	return api.Exported{}, inventory.Errorf(inventory.KindInternal, "cluster", "general", "not yet")
}

// DHCPConfig gives the inventory as a configuration of ISC's dhcpd.
func (a *Agent) DHCPConfig(failover bool) (api.Exported, error) {
	return api.Exported{}, inventory.Errorf(inventory.KindInternal, "cluster", "general", "not yet")
}
