// A client of the shop in Go, built from the published module: gRPC with its stubs, REST with net/http.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	shop "acme.com/contracts/shop/examples/shop/contracts"
	inventory "acme.com/contracts/shop/shop/inventory/v1"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(err)
	client := inventory.NewInventoryClient(conn)
	stock, err := client.Stock(ctx, &shop.GetStock{Sku: "tea"})
	must(err)
	fmt.Println("grpc", stock.GetSku(), stock.GetAvailable())

	keyed := metadata.AppendToOutgoingContext(ctx, "idempotency-key", "go-1")
	price := &money.Money{CurrencyCode: "EUR", Units: 2, Nanos: 500_000_000}
	order := &shop.Reserve{OrderId: "o-1", Lines: []*shop.Line{{Sku: "tea", Quantity: 3, Price: price}}}
	_, err = client.Reserve(keyed, order)
	for _, detail := range status.Convert(err).Details() {
		if refused, is := detail.(*shop.OutOfStock); is {
			fmt.Println("refused", status.Code(err), refused.GetSku(), refused.GetAvailable())
		}
	}

	answer, err := http.Get(os.Args[2] + "/v1/stock/tea")
	must(err)
	body := new(bytes.Buffer)
	body.ReadFrom(answer.Body)
	var over shop.Stock
	must(protojson.Unmarshal(body.Bytes(), &over))
	fmt.Println("rest", answer.StatusCode, over.GetSku(), over.GetAvailable())

	// what Go prints is what we read
	written, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(order)
	must(err)
	answer, err = http.Post(os.Args[2]+"/v1/reservations", "application/json", bytes.NewReader(written))
	must(err)
	var problem struct {
		Type    string          `json:"type"`
		Refusal json.RawMessage `json:"refusal"`
	}
	must(json.NewDecoder(answer.Body).Decode(&problem))
	var refused shop.OutOfStock
	must(protojson.Unmarshal(problem.Refusal, &refused))
	fmt.Println("refused", answer.StatusCode, problem.Type, refused.GetSku(), refused.GetAvailable())
}
