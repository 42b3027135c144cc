package agent

import (
	"testing"

	"github.com/clustervision/luna/boot/dhcp"
	"github.com/clustervision/luna/inventory"
)

func TestDuty(t *testing.T) {
	for name, tt := range map[string]struct {
		standing
		want dhcp.Duty
	}{
		"the holder":                          {standing{awake: true, heard: true, holds: true, holderLives: true, current: true}, dhcp.Everyone},
		"another head":                        {standing{awake: true, heard: true, holderLives: true, current: true}, dhcp.Silent},
		"another head, which has just died":   {standing{awake: true, heard: true, current: true}, dhcp.Silent},
		"back from the dead, once the holder": {standing{awake: true, heard: true, holds: true, holderLives: true}, dhcp.Silent},
		"the holder, just awake":              {standing{heard: true, holds: true, holderLives: true, current: true}, dhcp.Silent},
		"the holder, cut off just now":        {standing{awake: true, holds: true, holderLives: true, current: true}, dhcp.Silent},
		"the holder, cut off":                 {standing{awake: true, holds: true, holderLives: true, cutOff: true}, dhcp.KnownNodes},
		"cut off from the holder too":         {standing{awake: true, cutOff: true}, dhcp.KnownNodes},
		"cut off, but not from the holder":    {standing{awake: true, cutOff: true, holderLives: true}, dhcp.Silent},
		"cut off for days":                    {standing{awake: true, holds: true, cutOff: true, unsure: inventory.RetiredFor}, dhcp.Silent},
	} {
		if got := tt.duty(); got != tt.want {
			t.Errorf("%s: duty %d, want %d", name, got, tt.want)
		}
	}
}
