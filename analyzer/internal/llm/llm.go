package llm

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sashabaranov/go-openai"
	"golang.org/x/time/rate"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/report"
)

// Client is a report.Worder. It is safe for concurrent use.
type Client struct {
	cfg     Config
	api     *openai.Client
	limiter *rate.Limiter
	retry   time.Duration // least wait before a retry

	mu     sync.Mutex
	format string // FormatSchema or FormatObject once known, else FormatAuto
	cache  map[[sha256.Size]byte]report.Answer
	rested time.Time // the model is not asked before
}

const (
	maxCached = 64
	retries   = 2
	// rest is how long a model that did not serve is left alone: reports are made one
	// after another, and each would wait for it again.
	rest = time.Minute
)

// New returns a client for a configuration that is enabled. It connects to
// nothing.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("llm.%w", err)
	}
	key, err := cfg.APIKey.Value()
	if err != nil {
		return nil, fmt.Errorf("llm.api_key: %w", err)
	}
	oc := openai.DefaultConfig(key)
	oc.BaseURL = strings.TrimRight(cfg.BaseURL, "/")
	oc.HTTPClient = &http.Client{
		Timeout:   cfg.Timeout, // beside the context: go-openai has none of its own
		Transport: newTransport(),
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errRedirect // the key must not travel on
		},
	}
	return &Client{
		cfg: cfg, api: openai.NewClientWithConfig(oc), format: cfg.ResponseFormat, retry: 500 * time.Millisecond,
		limiter: rate.NewLimiter(rate.Every(time.Hour/time.Duration(cfg.MaxPerHour)), min(cfg.MaxPerHour, 10)),
		cache:   map[[sha256.Size]byte]report.Answer{},
	}, nil
}

// Name implements report.Worder.
func (c *Client) Name() string { return c.cfg.Model }

// Word implements report.Worder: it asks the model within the configured timeout,
// which bounds retries and the second response format as well. Every error is an
// *Error. The same request is answered from memory. After a timeout or a fault of
// the server it fails at once for a minute.
func (c *Client) Word(parent context.Context, req report.Request) (report.Answer, error) {
	conversation, err := prompt(req)
	if err != nil {
		return report.Answer{}, &Error{noteUnusable, err}
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%q %q", c.cfg.Model, conversation))
	c.mu.Lock()
	answer, ok := c.cache[key]
	resting := time.Now().Before(c.rested)
	c.mu.Unlock()
	switch {
	case ok:
		return answer, nil
	case resting:
		return report.Answer{}, &Error{noteResting, errors.New("it did not serve a moment ago")}
	}
	if !c.limiter.Allow() {
		return report.Answer{}, &Error{noteLimit, errors.New("too many reports an hour")}
	}
	ctx, cancel := context.WithTimeout(parent, c.cfg.Timeout)
	defer cancel()
	content, err := c.ask(ctx, req, conversation)
	if err != nil {
		failure := classify(ctx, err)
		if failure.ofServer() && parent.Err() == nil {
			c.mu.Lock()
			c.rested = time.Now().Add(rest)
			c.mu.Unlock()
		}
		return report.Answer{}, failure
	}
	if answer, err = parse(content); err != nil {
		return report.Answer{}, &Error{noteMalformed, err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.cache) >= maxCached {
		clear(c.cache)
	}
	c.cache[key] = answer
	return answer, nil
}

// ask sends the request, in the other response format if the server turns out
// not to know json_schema, and again after 429 and 5xx.
func (c *Client) ask(ctx context.Context, req report.Request, conversation []message) (string, error) {
	c.mu.Lock()
	format := c.format
	c.mu.Unlock()
	probing := format == FormatAuto
	if probing {
		format = FormatSchema
	}
	for attempt := 0; ; {
		content, err := c.complete(ctx, c.request(req, conversation, format))
		switch {
		case err == nil:
			c.learn(probing, format)
			return content, nil
		case probing && format == FormatSchema && lacksSchema(err):
			format = FormatObject // some servers answer 400, some 500 (llama-cpp-python)
			continue
		case attempt == retries || !retryable(err):
			return "", err
		}
		attempt++
		wait := c.retry<<attempt + rand.N(c.retry)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return "", err
		}
	}
}

func (c *Client) learn(probing bool, format string) {
	if probing {
		c.mu.Lock()
		c.format = format
		c.mu.Unlock()
	}
}

// complete returns the text of one finished, unrefused reply.
func (c *Client) complete(ctx context.Context, req openai.ChatCompletionRequest) (string, error) {
	resp, err := c.api.CreateChatCompletion(ctx, req)
	if err != nil {
		return "", err
	}
	if len(resp.Choices) == 0 {
		return "", errEmpty // also what a 200 with an error object looks like
	}
	choice := resp.Choices[0]
	switch {
	case choice.Message.Refusal != "" || choice.FinishReason == openai.FinishReasonContentFilter:
		return "", errRefused
	case choice.FinishReason != openai.FinishReasonStop:
		return "", fmt.Errorf("%w: finish reason %.20q", errCut, string(choice.FinishReason))
	case choice.Message.Content == "":
		return "", errEmpty
	}
	return choice.Message.Content, nil
}

// temperature is as good as 0, which the client library leaves out. Not smaller:
// llama.cpp divides by it, and by the smallest float32 all words become equally
// likely.
const temperature = 0.01

func (c *Client) request(req report.Request, conversation []message, format string) openai.ChatCompletionRequest {
	r := openai.ChatCompletionRequest{Model: c.cfg.Model}
	for _, m := range conversation {
		r.Messages = append(r.Messages, openai.ChatCompletionMessage{Role: m.role, Content: m.text})
	}
	if reasons(c.cfg.Model) {
		r.MaxCompletionTokens = c.cfg.MaxTokens // such models know neither max_tokens nor a temperature
	} else {
		r.MaxTokens = c.cfg.MaxTokens //nolint:staticcheck // what gateways and local servers know; the successor is OpenAI's own
		r.Temperature = temperature
	}
	if format == FormatSchema {
		r.ResponseFormat = &openai.ChatCompletionResponseFormat{
			Type:       openai.ChatCompletionResponseFormatTypeJSONSchema,
			JSONSchema: &openai.ChatCompletionResponseFormatJSONSchema{Name: "claims", Schema: schema(req), Strict: true},
		}
	} else {
		r.ResponseFormat = &openai.ChatCompletionResponseFormat{Type: openai.ChatCompletionResponseFormatTypeJSONObject}
	}
	return r
}

// reasons tells whether go-openai holds model for one of the reasoning models,
// which it does by the start of its name.
func reasons(model string) bool {
	for _, prefix := range []string{"o1", "o3", "o4", "gpt-5"} {
		if strings.HasPrefix(model, prefix) {
			return true
		}
	}
	return false
}

// parse reads the one JSON object of a reply, which may stand in a code fence.
func parse(content string) (report.Answer, error) {
	content = strings.TrimSpace(content)
	if inner, ok := strings.CutPrefix(content, "```"); ok {
		inner = strings.TrimPrefix(inner, "json")
		content = strings.TrimSuffix(strings.TrimSpace(inner), "```")
	}
	var answer report.Answer
	if err := json.Unmarshal([]byte(content), &answer); err != nil {
		return answer, errors.New("reply is not the JSON that was asked for") // the decoder's text may quote it
	}
	return answer, nil
}
