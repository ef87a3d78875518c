// What an application in Node does with a sharded cluster, through the router. The connection string comes in $URI, the
// database in $DATABASE; a claim that is false ends the process with its message.
import assert from "node:assert/strict";
import { MongoClient } from "mongodb";

const client = new MongoClient(process.env.URI, { retryWrites: true });
await client.connect();
const database = client.db(process.env.DATABASE);
const orders = database.collection("orders");

const hello = await client.db("admin").command({ hello: 1 });
assert.equal(hello.msg, "isdbgrid");
await client.db("admin").command({ shardCollection: orders.namespace, key: { _id: "hashed" } });

const inserted = await orders.insertMany(
  Array.from({ length: 500 }, (_, i) => ({ _id: i, group: i % 5, n: i })), { ordered: false });
assert.equal(inserted.insertedCount, 500);
await assert.rejects(orders.insertOne({ _id: 1 }), { code: 11000 });

assert.deepEqual(await orders.findOne({ _id: 7 }), { _id: 7, group: 2, n: 7 });
const sorted = await orders.find({ group: 3 }, { batchSize: 10 }).sort({ n: -1 }).toArray();
assert.deepEqual(sorted.map((order) => order.n), Array.from({ length: 100 }, (_, i) => 498 - 5 * i));
assert.equal(await orders.countDocuments({ group: { $lt: 2 } }), 200);
assert.deepEqual((await orders.distinct("group")).sort(), [0, 1, 2, 3, 4]);

const update = await orders.updateMany({ group: 0 }, { $inc: { n: 1000 } });
assert.equal(update.modifiedCount, 100);
assert.equal((await orders.findOneAndUpdate({ _id: 1 }, { $set: { n: -1 } }, { returnDocument: "after" })).n, -1);
const bulk = await orders.bulkWrite([
  { insertOne: { document: { _id: 600, group: 9, n: 0 } } },
  { updateOne: { filter: { _id: 601 }, update: { $set: { group: 9 } }, upsert: true } },
  { deleteOne: { filter: { _id: 2 } } },
]);
assert.deepEqual([bulk.insertedCount, bulk.upsertedCount, bulk.deletedCount], [1, 1, 1]);

const groups = await orders.aggregate([
  { $match: { group: { $lt: 5 } } },
  { $group: { _id: "$group", count: { $sum: 1 } } },
  { $sort: { _id: 1 } },
]).toArray();
assert.deepEqual(groups.map((group) => group.count), [100, 100, 99, 100, 100]);

await client.withSession(async (session) => {
  await session.withTransaction(async () => {
    await orders.updateOne({ _id: 10 }, { $inc: { n: -5 } }, { session });
    await orders.updateOne({ _id: 11 }, { $inc: { n: 5 } }, { session });
  }, { readConcern: { level: "snapshot" }, writeConcern: { w: "majority" } });
  session.startTransaction();
  await orders.deleteMany({}, { session });
  await session.abortTransaction();
});
assert.deepEqual([(await orders.findOne({ _id: 10 })).n, (await orders.findOne({ _id: 11 })).n], [1005, 16]);
assert.equal(await orders.countDocuments({}), 501);

await assert.rejects(client.db("admin").command({ frobnicate: 1 }), { code: 59 });
await client.close();
console.log("ok");
