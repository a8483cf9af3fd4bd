package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/nearcast/nearcast/healthmesh"
)

// A KeyringRequest is what a client of the API sends to change the gossip keys of all nodes.
type KeyringRequest struct {
	Change string `json:"change"` // healthmesh.KeyAdd, KeyUse or KeyRemove
	Key    string `json:"key"`    // base64; or, except to add it, its fingerprint
}

// keyring tells the keys, by their fingerprints.
func (s *Server) keyring(w http.ResponseWriter, r *http.Request) { s.rotate(w, r, KeyringRequest{}) }

func (s *Server) changeKeyring(w http.ResponseWriter, r *http.Request) {
	var q KeyringRequest
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("the change is not the JSON that is accepted: %w", err))
		return
	}
	if q.Change == "" {
		fail(w, http.StatusBadRequest, fmt.Errorf("change: missing, %s, %s and %s are accepted", healthmesh.KeyAdd, healthmesh.KeyUse, healthmesh.KeyRemove))
		return
	}
	s.rotate(w, r, q)
}

func (s *Server) rotate(w http.ResponseWriter, r *http.Request, q KeyringRequest) {
	ctx, cancel := context.WithTimeout(r.Context(), orderTimeout)
	defer cancel()
	ring, err := s.o.Mesh.Rotate(ctx, q.Change, q.Key)
	if err != nil {
		fail(w, http.StatusConflict, err)
		return
	}
	reply(w, http.StatusOK, ring)
}
