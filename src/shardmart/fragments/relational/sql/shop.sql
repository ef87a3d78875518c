-- The shop of one region: what a node holds of Customer, Orders, OrderItems, Payments and Shipments (derived horizontal
-- fragments: a row lives where its customer lives).  "thing:" lines cut this file; relational/schema.py makes what is missing.
-- {region} is the node's region.

-- thing: table customer
CREATE TABLE Customer (
    region text NOT NULL CHECK (region = '{region}'),
    customer_id text NOT NULL,
    customer_name text NOT NULL CHECK (customer_name <> ''),
    email text NOT NULL,
    street text NOT NULL,
    postcode text NOT NULL,
    city text NOT NULL,
    country text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (region, customer_id)
);

-- thing: index customer_by_name
CREATE INDEX customer_by_name ON Customer (customer_name);

-- thing: table orders
CREATE TABLE Orders (
    order_id text NOT NULL,
    order_sequence_id integer NOT NULL CHECK (order_sequence_id >= 1), -- the parts in which an order is delivered and paid
    region text NOT NULL CHECK (region = '{region}'),
    customer_id text NOT NULL,
    total_cents bigint NOT NULL CHECK (total_cents >= 0),
    status text NOT NULL CHECK (status IN ('pending', 'paid', 'shipped', 'delivered', 'cancelled', 'returned')),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (order_id, order_sequence_id),
    FOREIGN KEY (region, customer_id) REFERENCES Customer
);

-- thing: index orders_customer
CREATE INDEX orders_customer ON Orders (customer_id, created_at);

-- thing: table orderitems
CREATE TABLE OrderItems (
    order_id text NOT NULL,
    order_sequence_id integer NOT NULL,
    product_id text NOT NULL, -- no foreign key: the product lies where its price says, perhaps on another node
    quantity integer NOT NULL CHECK (quantity > 0),
    unit_price_cents integer NOT NULL CHECK (unit_price_cents >= 0),
    PRIMARY KEY (order_id, order_sequence_id, product_id),
    FOREIGN KEY (order_id, order_sequence_id) REFERENCES Orders
);

-- thing: table payments
CREATE TABLE Payments (
    payment_id text PRIMARY KEY,
    order_id text NOT NULL,
    order_sequence_id integer NOT NULL,
    amount_cents bigint NOT NULL CHECK (amount_cents >= 0),
    method text NOT NULL CHECK (method IN ('card', 'invoice', 'wallet')),
    status text NOT NULL CHECK (status IN ('due', 'paid', 'void', 'refunded')),
    paid_at timestamptz,
    FOREIGN KEY (order_id, order_sequence_id) REFERENCES Orders
);

-- thing: index payments_order
CREATE INDEX payments_order ON Payments (order_id, order_sequence_id);

-- thing: table shipments
CREATE TABLE Shipments (
    shipment_id text PRIMARY KEY,
    order_id text NOT NULL,
    order_sequence_id integer NOT NULL,
    carrier text NOT NULL,
    tracking_number text NOT NULL,
    status text NOT NULL CHECK (status IN ('packed', 'shipped', 'delivered', 'returned')),
    shipped_at timestamptz,
    customer_id text NOT NULL, -- from here on: who it went to and where, as it was then
    customer_name text NOT NULL,
    street text NOT NULL,
    postcode text NOT NULL,
    city text NOT NULL,
    country text NOT NULL,
    FOREIGN KEY (order_id, order_sequence_id) REFERENCES Orders
);

-- thing: index shipments_order
CREATE INDEX shipments_order ON Shipments (order_id, order_sequence_id);

-- thing: table seedings
-- The seedings that wrote everything of theirs on this node: what is gone since, somebody deleted.
CREATE TABLE Seedings (
    seed bigint NOT NULL,
    catch_all boolean NOT NULL,
    users bigint NOT NULL,
    orders_per_user bigint NOT NULL,
    products bigint NOT NULL,
    PRIMARY KEY (seed, catch_all, users, orders_per_user, products)
);

-- The vertical fragments of Shipments.  Each has the key; together they have every column, so their join is lossless.

-- thing: table shipment_details_table
CREATE TABLE SHIPMENT_DETAILS_TABLE (
    shipment_id text PRIMARY KEY,
    order_id text NOT NULL,
    order_sequence_id integer NOT NULL,
    carrier text NOT NULL,
    tracking_number text NOT NULL,
    status text NOT NULL,
    shipped_at timestamptz
);

-- thing: table customer_details_table
CREATE TABLE CUSTOMER_DETAILS_TABLE (
    shipment_id text PRIMARY KEY,
    customer_id text NOT NULL,
    customer_name text NOT NULL,
    street text NOT NULL,
    postcode text NOT NULL,
    city text NOT NULL,
    country text NOT NULL
);

-- thing: function keep_vertical_fragments
-- In the transaction that changes the original; nobody but this function may write to the fragments.
CREATE OR REPLACE FUNCTION keep_vertical_fragments() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM SHIPMENT_DETAILS_TABLE WHERE shipment_id = OLD.shipment_id;
        DELETE FROM CUSTOMER_DETAILS_TABLE WHERE shipment_id = OLD.shipment_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO SHIPMENT_DETAILS_TABLE VALUES (NEW.shipment_id, NEW.order_id, NEW.order_sequence_id, NEW.carrier,
            NEW.tracking_number, NEW.status, NEW.shipped_at);
        INSERT INTO CUSTOMER_DETAILS_TABLE VALUES (NEW.shipment_id, NEW.customer_id, NEW.customer_name, NEW.street,
            NEW.postcode, NEW.city, NEW.country);
    END IF;
    RETURN NULL;
END $$;

-- thing: trigger vertical_fragments ON shipments
CREATE TRIGGER vertical_fragments AFTER INSERT OR UPDATE OR DELETE ON Shipments
    FOR EACH ROW EXECUTE FUNCTION keep_vertical_fragments();

-- thing: function refuse_truncate
CREATE OR REPLACE FUNCTION refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE of % is refused: what is kept in step with it would not follow; use DELETE', TG_TABLE_NAME
        USING ERRCODE = 'feature_not_supported';
END $$;

-- thing: trigger shipments_no_truncate ON shipments
CREATE TRIGGER shipments_no_truncate BEFORE TRUNCATE ON Shipments FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

-- thing: view shipments_reconstructed
CREATE OR REPLACE VIEW Shipments_Reconstructed AS
    SELECT shipment_id, s.order_id, s.order_sequence_id, s.carrier, s.tracking_number, s.status, s.shipped_at,
           c.customer_id, c.customer_name, c.street, c.postcode, c.city, c.country
    FROM SHIPMENT_DETAILS_TABLE s JOIN CUSTOMER_DETAILS_TABLE c USING (shipment_id);
