package agent

import (
	"github.com/clustervision/luna/boot"
	"github.com/clustervision/luna/inventory"
)

// Script renders what a node gets at a step, as an administrator may see it.
func (a *Agent) Script(n *inventory.Node, step string) (string, error) {
	m, err := a.self()
	if err != nil {
		return "", err
	}
	site := boot.Site{Inventory: m.machine.View(), Live: m.serving}
	if step == "boot" {
		return site.BootScript(n, "masked"), nil
	}
	plan, err := site.Plan(n, "")
	if err != nil {
		return "", inventory.Errorf(inventory.KindRefused, "node", n.Name, "%v", err)
	}
	return boot.InstallScript(plan, boot.Scripts), nil
}
