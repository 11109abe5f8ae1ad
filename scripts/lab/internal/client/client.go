// Package client reads the analyzer's JSON API from wherever it is reached.
package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/judge"
)

const (
	maxAnswer = 32 << 20
	pageSize  = 1000
)

// Client reads one analyzer. It is safe for concurrent use.
type Client struct {
	base string
	http http.Client
}

// Incident is an incident as the API tells it.
type Incident struct {
	ID       string   `json:"id"`
	Status   string   `json:"status"`
	Severity string   `json:"severity"`
	Title    string   `json:"title"`
	Kinds    []string `json:"kinds"`
	Entities []string `json:"entities"`
	Findings int      `json:"findings"`
}

// Report is a report as the API lists it.
type Report struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Subject string    `json:"subject"` // incident id
	Author  string    `json:"author"`
	Note    string    `json:"note"`
	Created time.Time `json:"created"`
}

// Delivery is the state of a report at an endpoint.
type Delivery struct {
	Report     string `json:"report"`
	Endpoint   string `json:"endpoint"`
	State      string `json:"state"`
	Attempts   int    `json:"attempts"`
	HTTPStatus int    `json:"http_status"`
	Error      string `json:"error"`
}

// New returns a client of the analyzer at address, reached with dial.
func New(address string, dial func(ctx context.Context, network, address string) (net.Conn, error)) *Client {
	return &Client{base: "http://" + address, http: http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 4},
	}}
}

// Findings returns all findings, the newest first.
func (c *Client) Findings(ctx context.Context) ([]judge.Finding, error) {
	return list[judge.Finding](ctx, c, "findings")
}

// Incidents returns all incidents, the newest first.
func (c *Client) Incidents(ctx context.Context) ([]Incident, error) {
	return list[Incident](ctx, c, "incidents")
}

// Reports returns all reports, the newest first.
func (c *Client) Reports(ctx context.Context) ([]Report, error) {
	return list[Report](ctx, c, "reports")
}

// Deliveries returns all deliveries, the newest first.
func (c *Client) Deliveries(ctx context.Context) ([]Delivery, error) {
	return list[Delivery](ctx, c, "deliveries")
}

// Healthy returns why not everything works, nil if it does.
func (c *Client) Healthy(ctx context.Context) error {
	_, err := c.get(ctx, "/healthz")
	return err
}

// list reads a whole list. A list that is longer than one answer is an error:
// judging a part of it would be wrong.
func list[T any](ctx context.Context, c *Client, what string) ([]T, error) {
	body, err := c.get(ctx, "/api/v1/"+what+"?"+url.Values{"limit": {fmt.Sprint(pageSize)}}.Encode())
	if err != nil {
		return nil, err
	}
	var answer struct {
		Total int `json:"total"`
		Items []T `json:"items"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if answer.Total > len(answer.Items) {
		return nil, fmt.Errorf("read %s: there are %d, the answer holds %d", what, answer.Total, len(answer.Items))
	}
	return answer.Items, nil
}

func (c *Client) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the analyzer: %w", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the analyzer: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask the analyzer for %s: %w", path, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the analyzer for %s: %s: %.200s", path, res.Status, body)
	}
	return body, nil
}
